"""However a log is cut into batches and checkpoints, and wherever a transaction tears, the counts are the same."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.decode import Decoded, Decoder
from domain.fold import Ahead, Dirty, Standing, fold
from domain.spec import EventTime, KeyField, TableSpec, TimeFormat, TopicSpec
from tests.unit.domain.logs import TOPIC, Line, World, batch_of, random_world
from tests.unit.domain.store import Store, oracle_state

SEEDS = range(40)


def positions(world: World) -> tuple[int, int]:
    """Source positions of a log; the last record is followed by two control records."""
    return (world.log[0].offset, world.log[-1].offset + 3) if world.log else (0, 0)


def split(r: Random, world: World, low: int, most: int) -> list[Decoded]:
    """Batches that cover the log from a position to its end; their bounds may lie in holes."""
    end = positions(world)[1]
    decoder = Decoder(world.topic, [world.table])
    bounds = sorted({low, end, *(r.randint(low, end) for _ in range(r.randint(0, most)))})
    return [
        decoder.decode(batch_of(tuple(line for line in world.log if first <= line.offset < last), first, last))
        for first, last in itertools.pairwise(bounds)
    ]


def fold_on(r: Random, world: World, store: Store, batches: list[Decoded], ahead: Ahead | None = None) -> None:
    """Fold batches, with a checkpoint after some of them and after the last."""
    dirty: Dirty = {}
    for decoded in batches:
        fold(world.table, decoded, store.standing, dirty, store.known_ids, ahead)
        if r.randint(0, 2) == 0:
            store.commit(dirty)
            dirty = {}
    store.commit(dirty)


def check_splits(r: Random, world: World) -> None:
    store = Store(Standing(positions(world)[0]))
    fold_on(r, world, store, split(r, world, positions(world)[0], 12))
    assert store.state() == oracle_state(world.topic, world.table, world.log)
    assert store.standing.next_offset == positions(world)[1]


def check_torn(r: Random, world: World) -> bool:
    """Lose progress of one checkpoint, keep some of its rows; whether any row was ahead of progress."""
    store = Store(Standing(positions(world)[0]))
    batches = split(r, world, positions(world)[0], 12)
    committed = r.randint(0, len(batches) - 1)
    fold_on(r, world, store, batches[:committed])
    before = Standing(store.standing.next_offset, store.standing.stream_time, dict(store.standing.tallies))

    for _ in range(r.randint(1, 2)):
        # The second attempt, cut elsewhere, tears too.
        dirty: Dirty = {}
        again = split(r, world, before.next_offset, 12)
        ahead = store.ahead()
        for decoded in again[: r.randint(1, len(again))]:
            fold(world.table, decoded, store.standing, dirty, store.known_ids, ahead)
        store.apply(store.rows(dirty).some(r))
        store.standing = Standing(before.next_offset, before.stream_time, dict(before.tallies))

    ahead = store.ahead()
    fold_on(r, world, store, split(r, world, before.next_offset, 12), ahead)
    assert store.state() == oracle_state(world.topic, world.table, world.log)
    return ahead.until >= 0


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_any_batches_and_checkpoints_of_a_small_log_give_one_state(r: Random, count: int) -> None:
    check_splits(r, random_world(r, count))


@pytest.mark.parametrize("time_format", list(TimeFormat))
def test_any_batches_and_checkpoints_of_a_long_log_give_one_state(time_format: TimeFormat) -> None:
    for seed in SEEDS:
        r = Random(f"split-{time_format}-{seed}")
        check_splits(r, random_world(r, 120, time_format))


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(2, 8))
def test_a_torn_checkpoint_of_a_small_log_changes_nothing(r: Random, count: int) -> None:
    check_torn(r, random_world(r, count))


@pytest.mark.parametrize("time_format", list(TimeFormat))
def test_a_torn_checkpoint_of_a_long_log_changes_nothing(time_format: TimeFormat) -> None:
    torn = 0
    for seed in SEEDS:
        r = Random(f"torn-{time_format}-{seed}")
        torn += check_torn(r, random_world(r, 100, time_format))
    assert torn > len(SEEDS) // 2


def simple(values: list[bytes], first: int = 0, dedup: str | None = None) -> World:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    table = TableSpec("t", TOPIC, (KeyField("k"),), dedup=dedup)
    return World(topic, table, tuple(Line(first + n, 5, None, value) for n, value in enumerate(values)))


@pytest.mark.parametrize("next_offset", range(9, 16))
@pytest.mark.parametrize("odd", [False, True])
def test_records_below_the_standing_are_ignored(next_offset: int, *, odd: bool) -> None:
    values = [b'{"k":"a","id":1}', b'{"k":"b","id":2}', b'{"k":"a","id":2}', b'{"k":"c","id":1}']
    if odd:
        values[1:1] = [b"odd", b'{"k":5}']
    world = simple(values, first=10, dedup="id")
    store = Store(Standing(next_offset))
    dirty: Dirty = {}
    decoded = Decoder(world.topic, [world.table]).decode(batch_of(world.log))
    fold(world.table, decoded, store.standing, dirty, store.known_ids)
    store.commit(dirty)
    rest = tuple(line for line in world.log if line.offset >= next_offset)
    assert store.state() == oracle_state(world.topic, world.table, rest)
    assert store.standing.next_offset == max(next_offset, decoded.batch.end)


def test_a_batch_of_control_records_only_moves_the_position() -> None:
    world = simple([])
    store = Store(Standing(3, 100, {"late": 1}))
    dirty: Dirty = {}
    decoded = Decoder(world.topic, [world.table]).decode(batch_of((), 3, 8))
    fold(world.table, decoded, store.standing, dirty, store.known_ids)
    assert (store.standing, dirty) == (Standing(8, 100, {"late": 1}), {})


def test_an_id_stored_by_a_torn_checkpoint_at_its_own_offset_is_no_duplicate() -> None:
    world = simple([b'{"k":"a","id":1}', b'{"k":"a","id":1}'], dedup="id")
    store = Store(Standing(0), ids={(0, b"i1"): 0})
    fold_on(Random(0), world, store, [Decoder(world.topic, [world.table]).decode(batch_of(world.log))], store.ahead())
    assert store.standing.tallies == {"on_time": 1, "duplicate": 1}
    assert store.cells == {(0, b"a"): (1, 0, 0)}


def test_several_tables_share_one_decoded_batch() -> None:
    r = Random(11)
    world = random_world(r, 200, TimeFormat.EPOCH_MS)
    tables = [random_world(r, 1).table for _ in range(8)]
    decoded = Decoder(world.topic, tables).decode(batch_of(world.log))
    for table in tables:
        store = Store(Standing(0))
        dirty: Dirty = {}
        fold(table, decoded, store.standing, dirty, store.known_ids)
        store.commit(dirty)
        assert store.state() == oracle_state(world.topic, table, world.log)
