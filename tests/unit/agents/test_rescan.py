"""Reading the state again in chunks: each true at the offset it comes with, and none missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents import rescan as rescan_module
from agents.partition import Partition, TableFold, first_progress
from agents.rescan import Rescan
from domain.errors import CorruptRowError
from domain.keys import encode_key
from domain.rows import parse_key, unpack_cell
from tables.rocksdb import Glimpse, Position, RocksStore, StoreClosedError
from tests.unit.agents.fakes import STATE_ID, TOPIC, UNIQUE, VIEWS, batch, open_store


class Counted:
    """A partition that commits what it counts."""

    def __init__(self, store: RocksStore) -> None:
        folds = [TableFold.resume(one, first_progress(TOPIC, one, STATE_ID, 0, []), None) for one in (VIEWS, UNIQUE)]
        self.partition = Partition(TOPIC, 0, store, STATE_ID, folds)

    def count(self, keys: str) -> None:
        self.partition.fold(batch(self.partition.next_offset, keys, step_ms=0))
        checkpoint = self.partition.cut()
        assert checkpoint is not None
        encoded = checkpoint.encode(self.partition.store)
        self.partition.store.commit(encoded.rows, Position(STATE_ID, 0))
        self.partition.committed(checkpoint, encoded)


@pytest.fixture
def store(state_dir: Path) -> Iterator[RocksStore]:
    opened = open_store(state_dir)
    yield opened
    opened.close()


@pytest.fixture
def counted(store: RocksStore) -> Counted:
    return Counted(store)


def keys(scan: Rescan) -> list[bytes]:
    found = [parse_key(row) for chunk in scan.cells() for row, _ in chunk.rows]
    return [one.tail for one in found if one is not None]


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 100])
def test_every_cell_of_the_table_comes_once(counted: Counted, monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", chunk_rows)
    counted.count("abcabd")
    assert keys(Rescan(counted.partition.store, "views", 0)) == [encode_key(one) for one in "abcd"]


def test_keys_that_lie_as_close_as_keys_can_are_told_apart(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", 1)
    counted.count("ab")
    store = counted.partition.store
    row, value = next(one for one in store.scan(b"\x01c") if one[0].endswith(b"a"))
    store.commit([(row + b"\x00", value), (row + b"\x00\x00", value)])
    assert keys(Rescan(store, "views", 0)) == [b"a", b"a\x00", b"a\x00\x00", b"b"]


def test_only_cells_with_an_event_since_then_come(counted: Counted) -> None:
    counted.count("ab")
    counted.count("ac")
    assert keys(Rescan(counted.partition.store, "views", 2)) == [b"a", b"c"]
    assert keys(Rescan(counted.partition.store, "views", 3)) == [b"c"]
    scan = Rescan(counted.partition.store, "views", 4)
    assert (list(scan.certificates()), keys(scan)) == ([], [])


def test_a_chunk_is_true_at_the_offset_it_was_read_at(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", 1)
    counted.count("abc")
    scan = Rescan(counted.partition.store, "views", 0)
    chunks = []
    for chunk in scan.cells():
        ((_, value),) = chunk.rows
        assert value is not None
        chunks.append((unpack_cell(value).on_time, chunk.next_offset))
        counted.count("abc")
    assert all(next_offset == 3 * value for value, next_offset in chunks)
    assert len(chunks) == 3
    assert len(set(chunks)) > 1, "not all of one moment"
    assert scan.progress.next_offset == 3, "that of the beginning"


def test_a_checkpoint_right_after_a_read_does_not_raise_the_version_of_what_was_read(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted.count("abc")
    store = counted.partition.store
    scan = Rescan(store, "views", 0)
    read = store.read

    def read_then_count(*arguments: Any, **options: Any) -> Glimpse:
        glimpse = read(*arguments, **options)
        counted.count("abc")
        return glimpse

    monkeypatch.setattr(store, "read", read_then_count)
    for chunk in scan.cells():
        values = {unpack_cell(value).on_time for _, value in chunk.rows if value is not None}
        assert {3 * value for value in values} == {chunk.next_offset}


def test_a_store_closed_between_two_chunks_ends_it(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescan_module, "CHUNK_ROWS", 1)
    counted.count("abc")
    cells = Rescan(counted.partition.store, "views", 0).cells()
    next(cells)
    counted.partition.store.close()
    with pytest.raises(StoreClosedError):
        next(cells)


def test_a_store_without_progress_is_damaged(store: RocksStore) -> None:
    with pytest.raises(CorruptRowError, match="no progress of table views"):
        Rescan(store, "views", 0)
