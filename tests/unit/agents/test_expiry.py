"""Cells of expired windows leave the state: when, in what order, and never what a follower still needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.partition import Followed, Partition
from agents.rescan import Rescan
from domain.certificate import Certificate
from domain.progress import CountsProgress, FollowerProgress
from domain.rows import Kind, Role, Row, pack_cell, parse_key, unpack_certificate, window_prefix
from tables.rocksdb import RocksSettings, RocksStore
from tests.unit.agents.fakes import NOW_MS, STATE_ID, TOPIC, UNIQUE, VIEWS, batch, open_store, resumed

FIRST = NOW_MS - NOW_MS % VIEWS.window_ms
STEP_MS = VIEWS.retention_ms + VIEWS.window_ms  # the next record expires the window of the one before


@pytest.fixture
def store(state_dir: Path) -> Iterator[RocksStore]:
    opened = open_store(state_dir)
    yield opened
    opened.close()


def open_partition(store: RocksStore, *, archive: bool = False, counts: bool = False) -> Partition:
    """A new owner: it goes on where the store's progress says."""
    folds = resumed(store, VIEWS, UNIQUE)
    log = Followed.resume(Role.ARCHIVE, FollowerProgress(state_id=STATE_ID, start=0, next_offset=0))
    sinks = [
        Followed.resume(Role.COUNTS, CountsProgress(state_id=STATE_ID, start=0, next_offset=0), one.name)
        for one in (VIEWS, UNIQUE)
    ]
    return Partition(TOPIC, 0, store, STATE_ID, folds, [log] if archive else [], sinks if counts else [])


def commit(partition: Partition, max_records: int = 1000) -> list[Row]:
    """The rows of a checkpoint; none if there was nothing to commit."""
    checkpoint = partition.cut()
    if checkpoint is None:
        return []
    encoded = checkpoint.encode(partition.store, max_records)
    partition.store.commit(encoded.rows)
    partition.committed(checkpoint, encoded)
    return encoded.rows


def left(store: RocksStore, table: str = "views") -> set[tuple[Kind, int]]:
    """Kinds and windows, counted from the first, of the rows of cells and event ids."""
    parsed = [one for key, _ in store.scan(b"\x01") if (one := parse_key(key)) is not None and one.table == table]
    return {(one.kind, (one.start_ms - FIRST) // 1000) for one in parsed if one.kind in {Kind.CELL, Kind.ID}}


def certificate(store: RocksStore, start: int = FIRST, table: str = "views") -> Certificate:
    value = store.get(window_prefix(Kind.CERTIFICATE, table, start))
    assert value is not None
    return unpack_certificate(value)


def test_cells_and_event_ids_go_with_their_window(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    partition.fold(batch(1, "b", step_ms=STEP_MS - 1))
    commit(partition)
    assert left(store, "unique") == {(kind, at) for kind in (Kind.CELL, Kind.ID) for at in (0, 60)}
    partition.fold(batch(2, "c", step_ms=STEP_MS // 2))  # stream time is now exactly end + retention
    rows = commit(partition)
    assert left(store) == {(Kind.CELL, 60), (Kind.CELL, 61)}
    assert left(store, "unique") == {(kind, at) for kind in (Kind.CELL, Kind.ID) for at in (60, 61)}
    for name in ("views", "unique"):
        assert certificate(store, table=name).dropped
        assert not certificate(store, FIRST + 60_000, name).dropped
    keys = [key for key, _ in rows]
    tombstones = [key for key, value in rows if value is None]
    assert len(tombstones) == 3
    marked = window_prefix(Kind.CERTIFICATE, "views", FIRST)
    assert keys.index(marked) < keys.index(tombstones[0])


@pytest.mark.parametrize("waits_for", ["archive", "counts"])
def test_cells_wait_for_every_follower(store: RocksStore, waits_for: str) -> None:
    partition = open_partition(store, archive=True, counts=True)
    logs, counts = [*partition.logs.values()], [*partition.counts.values()]
    slow, quick = (logs, counts) if waits_for == "archive" else (counts, logs)
    partition.fold(batch(0, "aba"))
    partition.fold(batch(3, "c", step_ms=STEP_MS))
    for one in quick:
        one.reached(4)
    for one in slow:
        one.reached(2)
    commit(partition)
    partition.fold(batch(4, "c", step_ms=STEP_MS))
    commit(partition)
    assert (Kind.CELL, 0) in left(store), "record 2 is not where it must get to"
    assert not certificate(store).dropped
    for one in slow:
        one.reached(3)
    commit(partition)
    assert (Kind.CELL, 0) not in left(store)
    assert certificate(store).dropped


def test_a_large_window_goes_in_several_checkpoints_though_nothing_else_moves(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "abcdefg", step_ms=1))
    commit(partition)
    partition.fold(batch(7, "z", step_ms=STEP_MS))
    tombstones = [[key for key, value in rows if value is None] for rows in iter(lambda: commit(partition, 4), [])]
    assert [len(some) for some in tombstones] == [4, 4, 4, 4, 4, 1]
    assert len({key for some in tombstones for key in some}) == 3 * 7
    assert {kind_at for name in ("views", "unique") for kind_at in left(store, name)} == {
        (Kind.CELL, 427),
        (Kind.ID, 427),
    }


def test_what_a_window_takes_in_after_its_drop_brings_nothing_back(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    commit(partition)
    partition.fold(batch(1, "b", step_ms=STEP_MS))
    commit(partition)
    partition.fold(batch(2, "a", step_ms=0))
    commit(partition)
    one = certificate(store)
    assert (one.on_time.count, one.expired.count, one.dropped) == (1, 1, True)
    assert left(store) == {(Kind.CELL, 61)}


def test_a_window_that_is_being_counted_goes_with_the_next_checkpoint(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    partition.fold(batch(1, "b", step_ms=STEP_MS))
    commit(partition)
    assert left(store) == {(Kind.CELL, 0), (Kind.CELL, 61)}
    partition.fold(batch(2, "", end=3))
    commit(partition)
    assert left(store) == {(Kind.CELL, 61)}


def test_leftovers_of_a_dropped_window_are_dropped_again_and_never_put(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    commit(partition)
    partition.fold(batch(1, "b", step_ms=STEP_MS))
    commit(partition)
    leftover = window_prefix(Kind.CELL, "views", FIRST) + b"old"
    store.commit([(leftover, pack_cell(1, 0, 0))])  # as from a directory older than the changelog's tombstones
    scan = Rescan(store, "views", 0)
    put = [key for chunk in scan.cells() for key, _ in chunk.rows]
    assert put == [window_prefix(Kind.CELL, "views", FIRST + 61_000) + b"b"]
    again = open_partition(store)
    again.fold(batch(2, "", end=3))
    commit(again)
    assert store.get(leftover) is None


def test_a_rescan_tells_again_of_flags_which_have_no_offset(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    commit(partition)
    partition.fold(batch(1, "b", step_ms=STEP_MS))
    commit(partition)
    told = [
        unpack_certificate(value)
        for chunk in Rescan(store, "views", 2).certificates()
        for _, value in chunk.rows
        if value
    ]
    assert [one.dropped for one in told] == [True]


class Looking(RocksStore):
    """Notes where it was looked for windows with rows."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, RocksSettings())
        self.looked: list[int] = []

    def keys(self, prefix: bytes, limit: int, start: bytes | None = None) -> list[bytes]:
        if start is not None and (parsed := parse_key(start)) is not None:
            self.looked.append((parsed.start_ms - FIRST) // 1000)
        return super().keys(prefix, limit, start)


def test_what_was_dropped_is_not_stepped_over_again(state_dir: Path) -> None:
    store = Looking(state_dir)
    partition = open_partition(store)
    for offset, at_ms in enumerate((0, 30_000, 80_000, 50_000, 95_000, 115_000, 160_000, 200_000)):
        record = batch(offset, "a", step_ms=0)
        record.timestamps[:] = NOW_MS + at_ms
        partition.fold(record)
        store.looked.clear()
        commit(partition)
        lowest = min(at for _, at in left(store))
        assert partition.tables[0].rows_from <= FIRST + lowest * 1000, "no window with rows is overlooked"
    assert min(store.looked) > 50, "long after the first ones were dropped"
    partition.fold(batch(8, "", end=9))
    commit(partition)
    assert left(store) == {(Kind.CELL, 160), (Kind.CELL, 200)}
    store.close()
