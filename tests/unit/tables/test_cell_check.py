"""Cells against certificates: never a false alarm while counting goes on, and every wrong value is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.partition import Partition, TableFold
from domain.rows import Kind, Row, pack_cell, table_prefix, unpack_cell, window_prefix
from domain.spec import TableSpec
from tables import cell_check
from tables.cell_check import CellCheck
from tables.rocksdb import RocksStore, StoreClosedError
from tables.suspicion import Suspicion
from tests.unit.agents.fakes import NOW_MS, STATE_ID, TOPIC, VIEWS, batch, open_store, resumed

SHORT = TableSpec("short", "clicks", VIEWS.key, window_ms=1000, grace_ms=1000, retention_ms=2000)
STEP_MS = 100


class Counted:
    """A partition that commits what it counts."""

    def __init__(self, store: RocksStore) -> None:
        self.store = store
        self.partition = Partition(TOPIC, 0, store, STATE_ID, resumed(store, VIEWS, SHORT))

    def count(self, keys: str, max_records: int = 50_000) -> None:
        self.partition.fold(batch(self.partition.next_offset, keys, step_ms=STEP_MS))
        checkpoint = self.partition.cut()
        assert checkpoint is not None
        encoded = checkpoint.encode(self.store, max_records)
        self.store.commit(encoded.rows)
        self.partition.committed(checkpoint, encoded)

    def fold(self, table: TableSpec) -> TableFold:
        return next(one for one in self.partition.tables if one.spec is table)

    def rows(self, kind: Kind, table: TableSpec = VIEWS) -> list[tuple[bytes, bytes]]:
        return list(self.store.scan(table_prefix(kind, table.name)))


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    store = open_store(tmp_path / "state")
    yield Counted(store)
    store.close()


def check(counted: Counted, table: TableSpec = VIEWS, rest: Callable[[], None] = lambda: None) -> CellCheck:
    return CellCheck(counted.store, table.name, rest)


def test_what_was_counted_adds_up(counted: Counted) -> None:
    counted.count("abcab" * 20)
    one = check(counted)
    assert one.mismatch() is None
    assert one.windows == len(counted.rows(Kind.CERTIFICATE)) > 5
    assert one.cells == len(counted.rows(Kind.CELL))


def test_nothing_adds_up(counted: Counted) -> None:
    assert check(counted).mismatch() is None


def more(value: bytes) -> bytes:
    cell = unpack_cell(value)
    return pack_cell(cell.on_time + 1, cell.late, cell.offset)


def late(value: bytes) -> bytes:
    cell = unpack_cell(value)
    return pack_cell(cell.on_time, cell.late + 1, cell.offset)


def later(value: bytes) -> bytes:
    cell = unpack_cell(value)
    return pack_cell(cell.on_time, cell.late, cell.offset + 10**6)


@pytest.mark.parametrize("wrong", [more, late, later, lambda _: b"short", lambda _: None])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_wrong_cell_is_found_wherever_it_is(
    counted: Counted, place: int, wrong: Callable[[bytes], bytes | None]
) -> None:
    counted.count("abcab" * 20)
    key, value = counted.rows(Kind.CELL)[place]
    rows: list[Row] = [(key, wrong(value))]
    counted.store.commit(rows)
    found = check(counted).mismatch()
    assert found is not None
    assert (found.table, found.start_ms) == ("views", int.from_bytes(key[len(table_prefix(Kind.CELL, "views")) :][:8]))
    assert check(counted, SHORT).mismatch() is None, "of that table alone"


@pytest.mark.parametrize("value", [None, b"damaged"])
def test_cells_without_a_certificate_are_a_mismatch(counted: Counted, value: bytes | None) -> None:
    counted.count("abcab" * 20)
    counted.store.commit([(counted.rows(Kind.CERTIFICATE)[3][0], value)])
    assert check(counted).mismatch() is not None


def test_the_newest_windows_come_first(counted: Counted) -> None:
    counted.count("abcab" * 20)
    cells = counted.rows(Kind.CELL)
    counted.store.commit([(key, more(value)) for key, value in (cells[0], cells[-1])])
    found = check(counted).mismatch()
    assert found is not None
    assert found.start_ms == (NOW_MS + 99 * STEP_MS) // 1000 * 1000


def test_windows_being_dropped_are_no_mismatch_at_any_step(counted: Counted) -> None:
    counted.count("abcdefgh" * 5)
    for _ in range(40):
        counted.count("a", max_records=1)
        assert check(counted, SHORT).mismatch() is None
    assert len(counted.rows(Kind.CERTIFICATE, SHORT)) > len({key[:-1] for key, _ in counted.rows(Kind.CELL, SHORT)})


def test_left_over_cells_of_a_dropped_window_are_no_mismatch(counted: Counted) -> None:
    counted.count("ab" * 60)
    counted.count("a")
    gone = window_prefix(Kind.CELL, "short", NOW_MS)
    assert not counted.store.keys(gone, 1)
    counted.store.commit([(gone + b"a", pack_cell(1, 0, 0))])  # of an older directory, its tombstone long gone
    assert check(counted, SHORT).mismatch() is None


def test_rows_of_tables_not_configured_are_not_looked_at(counted: Counted) -> None:
    counted.count("ab")
    counted.store.commit([(window_prefix(Kind.CELL, "removed", 0) + b"k", pack_cell(1, 2, 3))])
    assert check(counted).mismatch() is None


def test_no_false_alarm_while_it_counts(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rest lets a checkpoint in: the cells of a window are as of one moment all the same."""
    monkeypatch.setattr(cell_check, "CHUNK_ROWS", 1)
    counted.count("abcdefghij" * 3)
    done = 0

    def rest() -> None:
        nonlocal done
        if done < 200:
            done += 1
            counted.count("abcdefghijk"[done % 11] + "ab", max_records=2)

    for _ in range(5):
        done = 0
        for table in (VIEWS, SHORT):
            assert check(counted, table, rest).mismatch() is None
        assert done > 20


def test_no_false_alarm_when_checkpoints_come_between_a_certificate_and_its_cells(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted.count("ab")
    scan, left = counted.store.scan, 3

    def scan_after_a_checkpoint(prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        nonlocal left
        if left:
            others, left = left - 1, 0  # counting may scan as well
            counted.count("a")
            left = others
        return scan(prefix, start)

    monkeypatch.setattr(counted.store, "scan", scan_after_a_checkpoint)
    assert check(counted).mismatch() is None
    assert left == 0
    assert len(counted.rows(Kind.CERTIFICATE)) == 1, "all in one window"


def test_no_false_alarm_beside_a_thread_that_commits(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many checkpoints: more cells are counted than are dropped, and a check is slower the more there are."""
    monkeypatch.setattr(cell_check, "CHUNK_ROWS", 3)
    counted.count("ab")

    def commit_on() -> None:
        for _ in range(200):
            counted.count("abcdefghijklmnop", max_records=3)

    thread = threading.Thread(target=commit_on)
    thread.start()
    checks = 0
    try:
        while thread.is_alive():
            for table in (VIEWS, SHORT):
                assert check(counted, table).mismatch() is None
            checks += 1
    finally:
        thread.join()
    assert checks > 1


def test_a_check_ends_when_the_store_is_closed(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_check, "CHUNK_ROWS", 1)
    counted.count("abcdefghij")
    closing = threading.Thread(target=counted.store.close)

    def rest() -> None:
        if not closing.ident:
            closing.start()
        while not counted.store._closed:
            pass

    with pytest.raises(StoreClosedError):
        check(counted, rest=rest).mismatch()
    closing.join(10)
    assert not closing.is_alive()


def test_a_suspicion_is_of_one_state_until_it_is_cleared(tmp_path: Path) -> None:
    one = Suspicion(tmp_path / "clicks-0")
    one.clear()
    assert not one.noted("a")
    one.note("a", "cells don't add up")
    assert Suspicion(tmp_path / "clicks-0").noted("a")
    assert not one.noted("b"), "it was reset since"
    assert not Suspicion(tmp_path / "clicks-1").noted("a")
    one.clear()
    assert not one.noted("a")
