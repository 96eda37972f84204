from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import happybase
import pytest
from thriftpy2.thrift import TException

from lab import Hbase, Lab
from lab.errors import NotReadyError
from lab.probe_hbase import probe_master, probe_thrift
from tests.kafka import unique

REQUEST_SECONDS = 15.0


@contextlib.contextmanager
def connected(hbase: Hbase, timeout_seconds: float = REQUEST_SECONDS) -> Iterator[Any]:
    host, _, port = hbase.address.partition(":")
    with contextlib.closing(happybase.Connection(host, int(port), timeout=int(timeout_seconds * 1000))) as connection:
        yield connection


def make_table(hbase: Hbase) -> str:
    name = unique("lab")
    with connected(hbase) as connection:
        connection.create_table(name, {"f": {}})
    return name


def write(hbase: Hbase, table: str, value: bytes, timeout_seconds: float = REQUEST_SECONDS) -> None:
    with connected(hbase, timeout_seconds) as connection:
        connection.table(table).put(b"row", {b"f:value": value})


def read(hbase: Hbase, table: str) -> bytes:
    with connected(hbase) as connection:
        value: bytes = connection.table(table).row(b"row")[b"f:value"]
    return value


def test_a_row_written_is_read_back(own_hbase: Hbase) -> None:
    table = make_table(own_hbase)
    write(own_hbase, table, b"value")
    assert read(own_hbase, table) == b"value"


def test_rows_survive_the_death_of_the_master_and_requests_meanwhile_fail_soon(own_hbase: Hbase) -> None:
    table = make_table(own_hbase)
    write(own_hbase, table, b"before")
    own_hbase.master.kill()
    started = time.monotonic()
    with pytest.raises(TException):
        write(own_hbase, table, b"meanwhile")
    assert time.monotonic() - started < 10
    own_hbase.master.start()
    assert read(own_hbase, table) == b"before"
    write(own_hbase, table, b"after")


def test_a_killed_thrift_server_restarts_on_its_port(own_hbase: Hbase) -> None:
    table, address = make_table(own_hbase), own_hbase.address
    write(own_hbase, table, b"value")
    own_hbase.thrift.kill()
    with pytest.raises(NotReadyError, match="nothing listens"):
        probe_thrift(address)
    own_hbase.thrift.start()
    assert own_hbase.address == address
    assert read(own_hbase, table) == b"value"


def test_a_paused_master_answers_nothing_until_it_is_resumed(own_hbase: Hbase) -> None:
    table = make_table(own_hbase)
    own_hbase.master.pause()
    with pytest.raises(TimeoutError):
        write(own_hbase, table, b"value", timeout_seconds=1)
    own_hbase.master.resume()
    own_hbase.master.wait_ready()
    write(own_hbase, table, b"value")
    assert read(own_hbase, table) == b"value"


def test_a_paused_thrift_server_is_not_ready_and_a_resumed_one_is(own_hbase: Hbase) -> None:
    own_hbase.thrift.pause()
    with pytest.raises(NotReadyError, match="TimeoutError"):
        probe_thrift(own_hbase.address)
    own_hbase.thrift.resume()
    own_hbase.thrift.wait_ready()


def test_the_master_is_asked_though_thrift_is_dead(own_hbase: Hbase) -> None:
    own_hbase.thrift.kill()
    own_hbase.master.probe()
    with pytest.raises(NotReadyError, match="nothing listens"):
        probe_master("127.0.0.1:1")


def test_two_labs_hold_two_hbases_each_with_its_settings(own_hbase: Hbase) -> None:
    with Lab() as other_lab:
        other = other_lab.hbase({"hbase.thrift.server.socket.read.timeout": "500"})
        table = make_table(own_hbase)
        write(own_hbase, table, b"own")
        with connected(other) as connection:
            assert table.encode() not in connection.tables()
            connection.create_table(table, {"f": {}})
        host, _, port = other.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as idle:
            assert idle.recv(1) == b"", "its own setting: it cuts an idle connection"
        write(other, table, b"other")
        assert read(own_hbase, table) == b"own"


def test_callers_at_the_same_time_get_one_hbase(own_lab: Lab, own_hbase: Hbase) -> None:
    found: list[Hbase] = []
    threads = [threading.Thread(target=lambda: found.append(own_lab.hbase())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [own_hbase] * 4
