from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Hbase, Lab
from lab.errors import NotReadyError
from tests.lab.test_lab_hbase import make_table, read, write
from tests.waiting import wait_for

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def apart() -> Iterator[Hbase]:
    """HBase whose master, ZooKeeper and two region servers are processes of their own."""
    with Lab() as lab:
        yield lab.hbase(region_servers=2)


def accepted(hbase: Hbase, table: str, value: bytes) -> bool:
    """Whether a write succeeds; requests fail until the regions of the dead are served again."""
    try:
        hbase.thrift.probe()
        write(hbase, table, value)
    except (NotReadyError, OSError, Exception):  # noqa: BLE001 - Thrift has an error for each way to fail
        return False
    return True


def test_every_server_is_a_process_and_answers_for_itself(apart: Hbase) -> None:
    names = [server.name for server in apart.servers]
    assert names == ["hbase-region-1", "hbase-region-2", "hbase-master", "hbase-zookeeper", "hbase-thrift"]
    assert apart.region_servers == apart.servers[:2]
    for server in apart.servers:
        server.probe()
    assert len({server.pid for server in apart.servers}) == 5


def test_the_other_region_server_serves_what_a_killed_one_had(apart: Hbase) -> None:
    tables = [make_table(apart) for _ in range(4)]  # spread over both
    for table in tables:
        write(apart, table, b"before")
    one = apart.region_servers[0]
    one.kill()
    with pytest.raises(NotReadyError, match="nothing listens"):
        one.probe()
    for table in tables:
        wait_for(f"{table} to be served", lambda table=table: accepted(apart, table, b"after"), 90)  # type: ignore[misc]
    one.start()
    apart.master.wait_ready()
    assert [read(apart, table) for table in tables] == [b"after"] * 4


def test_a_region_server_that_slept_past_its_session_dies_when_it_wakes(apart: Hbase) -> None:
    table, one = make_table(apart), apart.region_servers[0]
    one.pause()
    wait_for("the table to be served", lambda: accepted(apart, table, b"meanwhile"), 90)
    wait_for("the master to have given its regions away", lambda: serves(apart), 90)
    one.resume()
    wait_for("it to end", lambda: not one.running, 60)
    one.start()
    assert read(apart, table) == b"meanwhile"


def serves(hbase: Hbase) -> bool:
    try:
        hbase.master.probe()
    except NotReadyError:
        return False
    return True
