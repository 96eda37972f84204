"""What readers see of a partition between a checkpoint's steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agents.partition import Followed, Partition, TableFold
from agents.view import WorkerView
from domain.fold import Ahead
from domain.progress import CountsProgress
from domain.rows import Kind, Role, window_prefix
from tables.rocksdb import RocksStore
from tests.unit.agents.fakes import NOW_MS, P0, STATE_ID, TOPIC, VIEWS, batch, open_store, resumed

START = NOW_MS - NOW_MS % VIEWS.window_ms


@pytest.fixture
def store(state_dir: Path) -> Iterator[RocksStore]:
    one = open_store(state_dir)
    yield one
    one.close()


def view_of(partition: Partition) -> WorkerView:
    assignment = SimpleNamespace(tables={"views": VIEWS}, partitions=lambda: {P0: partition})
    return WorkerView(assignment, lambda _: None)  # type: ignore[arg-type]


def owner(store: RocksStore, ahead: Ahead | None = None, counts: CountsProgress | None = None) -> Partition:
    folds = [TableFold.resume(VIEWS, one.committed, ahead) for one in resumed(store, VIEWS)]
    followed = [] if counts is None else [Followed.resume(Role.COUNTS, counts, "views")]
    return Partition(TOPIC, 0, store, STATE_ID, folds, counts=followed)


def test_tallies_are_those_of_the_offset_that_the_answer_names(store: RocksStore) -> None:
    partition = owner(store)
    view = view_of(partition)
    for keys in ("ab", "abc"):
        partition.fold(batch(partition.next_offset, keys))
        checkpoint = partition.cut()
        assert checkpoint is not None
        encoded = checkpoint.encode(store)
        store.commit(encoded.rows)  # in a thread: readers may look before the loop hears of it
        assert sum(view.tallies("views", 0).values()) == view.as_of("views", 0).next_offset
        partition.committed(checkpoint, encoded)


def test_rows_of_a_torn_transaction_are_not_answered_before_progress_covers_them(store: RocksStore) -> None:
    whole = owner(store)
    whole.fold(batch(0, ""))
    first = whole.first_cut()
    store.commit(first.progress_rows())
    whole.fold(batch(0, "ab"))
    torn = whole.cut()
    assert torn is not None
    cells = torn.encode(store).tables["views"].cells
    store.commit(cells)  # neither certificate nor progress came through

    ahead = Ahead(cells={(START, b"a"): 0, (START, b"b"): 1}, until=1)
    partition = owner(store, ahead)
    view = view_of(partition)
    assert view.owned("views") == []
    partition.fold(batch(0, "ab"))
    assert store.get(window_prefix(Kind.CERTIFICATE, "views", START)) is None
    assert view.owned("views") == [], "the cells show two events, progress and certificate none"
    assert view.partitions()[0].state == "restoring"
    with pytest.raises(KeyError):
        view.top("views", 0, START, 10)
    checkpoint = partition.cut()
    assert checkpoint is not None
    encoded = checkpoint.encode(store)
    store.commit(encoded.rows)
    partition.committed(checkpoint, encoded)
    assert view.owned("views") == [0]
    assert [cell.on_time for cell in view.top("views", 0, START, 10)] == [1, 1]
    assert sum(view.tallies("views", 0).values()) == 2


def test_windows_that_hbase_lacks_are_told(store: RocksStore) -> None:
    counting = owner(store)
    for offset, key in enumerate("abcd"):
        counting.fold(batch(offset, key, step_ms=31_000))
        checkpoint = counting.cut()
        assert checkpoint is not None
        encoded = checkpoint.encode(store)
        store.commit(encoded.rows)
        counting.committed(checkpoint, encoded)

    def told(lost_until: int) -> list[tuple[bool, bool]]:
        progress = CountsProgress(state_id=STATE_ID, start=0, next_offset=4, lost_until=lost_until)
        windows = view_of(owner(store, counts=progress)).windows("views", 0, 0, 1 << 60)
        return [(one.dropped, one.lost) for one in windows]

    there = [(False, False), (False, False)]
    assert told(-1) == [(True, False), (True, False), *there]
    assert told(START) == [(True, True), (True, False), *there]
    assert told(1 << 60) == [(True, True), (True, True), *there], "what is in the state is put from there"
