"""Whose tables these are, on a real HBase."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from domain import rows
from domain.certificate import Certificate, ClassCount
from domain.errors import RefusedError, SinkUnavailableError
from domain.rows import Kind, window_prefix
from sinks.hbase import counts as counts_module
from sinks.hbase.claim import Claimant, Owner, claim, create_if_missing, read_owner
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseTable
from sinks.hbase.format import counts_table, windows_table
from tests.cell_sinks import HBaseRoom
from tests.waiting import wait_for


@pytest.fixture
def room(hbase_thrift: str) -> Iterator[HBaseRoom]:
    made = HBaseRoom(hbase_thrift)
    yield made
    made.close()


class CountingLock:
    """Knows how many have asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = 0

    def __enter__(self) -> None:
        self.asked += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def other_process(room: HBaseRoom) -> HBaseTable:
    return HBaseTable(room.pool, room.claimed.claimant)


def filled(room: HBaseRoom) -> str:
    """With one cell and its certificate; returns the id."""
    sink = room.sink()
    table_id = sink.claim()
    sink.put_cells([(window_prefix(Kind.CELL, room.table, 0) + b"a", rows.pack_cell(1, 0, 0))], 1)
    certificate = Certificate(0, ClassCount(1, 1, 0, 0))
    sink.put_certificates([(window_prefix(Kind.CERTIFICATE, room.table, 0), rows.pack_certificate(certificate))], 1)
    sink.put_frontier(1, 0, None)
    return table_id


def test_tables_are_made_with_one_version_and_no_ttl(room: HBaseRoom) -> None:
    room.sink().claim()
    for name in (counts_table(room.table), windows_table(room.table)):
        family = room.stranger.table(name).families()[b"c"]
        assert family["max_versions"] == 1
        assert family["time_to_live"] == 2**31 - 1, "for ever"


def test_workers_that_start_at_one_time_agree_on_one_id(room: HBaseRoom) -> None:
    with ThreadPoolExecutor(6) as threads:
        ids = {one.result() for one in [threads.submit(other_process(room).claim) for _ in range(6)]}
    assert len(ids) == 1
    assert room.sink().claim() in ids


def test_a_restart_keeps_the_id(room: HBaseRoom) -> None:
    first = filled(room)
    assert other_process(room).claim() == first


def test_a_counts_table_emptied_alone_gives_a_new_id_once(room: HBaseRoom) -> None:
    first = filled(room)
    name = counts_table(room.table)
    room.stranger.delete_table(name, disable=True)
    second = other_process(room).claim()
    assert second != first
    assert room.sink().claim() == second, "who claimed before takes it over"
    room.sink().put_cells([(window_prefix(Kind.CELL, room.table, 0) + b"a", rows.pack_cell(1, 0, 0))], 1)
    assert other_process(room).claim() == second, "filled again"


def test_without_any_count_there_is_nothing_to_miss(room: HBaseRoom) -> None:
    first = room.sink().claim()
    room.sink().put_frontier(9, None, None)
    expired_only = Certificate(5, expired=ClassCount(6, 1, 0, 5))
    row = (window_prefix(Kind.CERTIFICATE, room.table, 0), rows.pack_certificate(expired_only))
    room.sink().put_certificates([row], 9)
    assert other_process(room).claim() == first


@pytest.mark.parametrize("field", ["app", "topic", "fingerprint"])
def test_tables_of_other_counts_are_refused(room: HBaseRoom, field: str) -> None:
    filled(room)
    ours = room.claimed.claimant
    theirs = {"app": ours.app, "topic": ours.topic, "fingerprint": ours.fingerprint, field: "another"}
    other = HBaseTable(room.pool, Claimant(room.table, **theirs))
    with pytest.raises(RefusedError) as raised:
        other.claim()
    text = str(raised.value)
    assert f"{field} another" in text
    drop = f"drop {counts_table(room.table)} and {windows_table(room.table)}"
    assert (drop if field == "app" else f"recount reset --table {room.table}") in text
    room.sink().claim()


def test_an_owner_row_that_makes_no_sense_is_named(room: HBaseRoom) -> None:
    room.sink().claim()
    room.stranger.table(windows_table(room.table)).put(b"owner", {b"c:owner": b"{"})
    for claiming in (other_process(room), room.claimed):
        with pytest.raises(SinkUnavailableError, match=f"{windows_table(room.table)}: its row owner is damaged"):
            claiming.claim()


def test_an_owner_row_of_a_later_version_is_left_alone(room: HBaseRoom) -> None:
    room.sink().claim()
    owner = b'{"app":"app","topic":"clicks","fingerprint":"fingerprint","table_id":"x","format":2}'
    room.stranger.table(windows_table(room.table)).put(b"owner", {b"c:owner": owner})
    with pytest.raises(SinkUnavailableError, match="has format 2, this version knows 1"):
        other_process(room).claim()


def test_an_owner_row_mended_by_hand_is_as_good(room: HBaseRoom) -> None:
    filled(room)
    owner = b'{ "table_id": "mended", "app": "app", "topic": "clicks", "fingerprint": "fingerprint" }'
    windows = room.stranger.table(windows_table(room.table))
    windows.put(b"owner", {b"c:owner": owner})
    assert other_process(room).claim() == "mended"
    room.stranger.delete_table(counts_table(room.table), disable=True)
    assert other_process(room).claim() != "mended", "and can be replaced"


def test_a_damaged_certificate_keeps_nobody_from_counting(room: HBaseRoom) -> None:
    first = filled(room)
    room.stranger.table(windows_table(room.table)).put(b"000000000000007", {b"c:w0": b"?"})
    assert other_process(room).claim() == first
    room.stranger.delete_table(counts_table(room.table), disable=True)
    assert other_process(room).claim() != first


def test_a_counts_table_dropped_alone_under_a_running_worker_is_made_again(room: HBaseRoom) -> None:
    first = filled(room)
    room.stranger.delete_table(counts_table(room.table), disable=True)
    assert room.sink().claim() == first, "nothing shows yet"
    row = (window_prefix(Kind.CELL, room.table, 0) + b"b", rows.pack_cell(1, 0, 1))
    with pytest.raises(SinkUnavailableError, match=counts_table(room.table)):
        room.sink().put_cells([row], 2)
    assert room.sink().claim() != first
    room.sink().put_cells([row], 2)


def test_who_waits_for_a_claim_that_fails_fails_with_it(room: HBaseRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()

    def hang(*_: object) -> Owner:
        asked.release()
        assert go_on.wait(30)
        raise SinkUnavailableError("HBase", "timed out")

    lock = CountingLock()
    monkeypatch.setattr(room.claimed, "_lock", lock)
    monkeypatch.setattr(counts_module, "claim", hang)
    with ThreadPoolExecutor(4) as threads:
        claims = [threads.submit(room.claimed.claim) for _ in range(4)]
        assert asked.acquire(timeout=30)
        wait_for("the others to wait", lambda: lock.asked == 4)
        go_on.set()
        assert all(isinstance(one.exception(30), SinkUnavailableError) for one in claims)
    assert not asked.acquire(blocking=False), "one asked for all"


def test_a_table_dropped_while_running_is_found_missing_and_made_again(room: HBaseRoom) -> None:
    first = filled(room)
    room.empty()
    with pytest.raises(SinkUnavailableError, match="TableNotFound"):
        room.sink().claim()
    assert room.sink().claim() != first


def test_making_tables_that_another_makes_too(hbase_thrift: str, room: HBaseRoom) -> None:
    names = [f"{room.table}_{at}" for at in range(2)]
    with ThreadPoolExecutor(4) as threads:
        for one in [threads.submit(create_if_missing, Pool(hbase_thrift), names) for _ in range(4)]:
            one.result()
    there = {name.decode() for name in room.stranger.tables()}
    assert set(names) <= there


def test_nobody_owns_new_tables(room: HBaseRoom) -> None:
    claimed = claim(room.pool, room.claimed.claimant)
    with room.pool.connection() as connection:
        assert read_owner(connection, room.table) == claimed
