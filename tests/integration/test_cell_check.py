"""Cells against certificates over a restore from a real changelog, by the same code that workers run."""

from __future__ import annotations

from random import Random

import pytest

from domain.rows import Kind, parse_key
from tables.cell_check import CellCheck, Mismatch
from tables.rocksdb import Position, RocksStore
from tests.integration.test_restore import TABLES, Changelog, fresh, is_dropped, lines, log, resumed
from tests.unit.domain.logs import batch_of

__all__ = ["log"]


def mismatches(store: RocksStore) -> list[Mismatch]:
    found = [CellCheck(store, one.name, lambda: None).mismatch() for one in TABLES]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("cold", [True, False])
async def test_a_restored_state_adds_up(log: Changelog, cold: bool) -> None:
    partition = fresh(log.store("mine"))
    await log.counted(partition, lines(600))
    assert mismatches(partition.store) == []
    partition.store.close()
    store = log.store("" if cold else "mine")
    assert (await log.restore(store)).cold is cold
    assert mismatches(store) == []


@pytest.mark.parametrize("seed", range(3))
async def test_after_a_torn_transaction_it_adds_up_once_it_is_settled(log: Changelog, seed: int) -> None:
    r = Random(seed)
    everything = lines(600, seed)
    partition = fresh(log.store())
    await log.counted(partition, everything[:300])
    partition.fold(batch_of(everything[300:450]))
    checkpoint = partition.cut()
    assert checkpoint is not None
    torn = [row for row in checkpoint.encode(partition.store).rows if row[0][1:2] != Kind.PROGRESS.value]
    await log.write([row for row in torn if r.randint(0, 3) or is_dropped(row)])
    store = log.store()
    again = resumed(store, await log.restore(store))
    assert not again.settled
    assert mismatches(store), "a check would be mistaken now"
    for first in range(300, 600, 50):
        again.fold(batch_of(everything[first : first + 50]))
        if again.ready:
            await log.commit(again)
            assert again.settled
            assert mismatches(store) == []
    assert again.settled


async def test_an_older_directory_adds_up_though_tombstones_are_gone(log: Changelog) -> None:
    """Kafka drops tombstones after a day: what an older directory brings back is of windows marked as dropped."""
    everything = lines(900)
    partition = fresh(log.store("mine"))
    await log.counted(partition, everything[:200])
    old = dict(partition.store.scan(b""))
    for first in range(200, 900, 60):
        partition.fold(batch_of(everything[first : first + 60]))
        await log.commit(partition)
    now = dict(partition.store.scan(b""))
    # As if restored from the old position with what compaction has left of the log since.
    store = log.store()
    store.commit([*old.items(), *now.items()], Position("state", 0))
    back = {key for key, _ in store.scan(b"\x01")} - now.keys()
    kinds = {parsed.kind for key in back if (parsed := parse_key(key)) is not None}
    assert kinds == {Kind.CELL, Kind.ID}, "no more than what tombstones took away came back"
    assert mismatches(store) == []
    resuming = resumed(store, await log.restore(log.store()))
    resuming.fold(batch_of(lines(60, first=900)))
    checkpoint = resuming.cut()
    assert checkpoint is not None
    await log.commit(resuming, checkpoint)
    assert back & {key for key, _ in store.scan(b"\x01")} == set(), "they go again with the next checkpoint"
    assert mismatches(store) == []
