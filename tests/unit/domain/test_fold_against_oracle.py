"""The fold counts as the specification does, in one batch."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from domain.decode import SLICE, Decoder
from domain.fold import Dirty, Standing, TableClass, fold
from domain.spec import EventTime, KeyField, TableSpec, TimeFormat, TopicSpec
from tests.unit.domain.logs import TOPIC, Line, World, batch_of, odd_values, random_world
from tests.unit.domain.store import State, Store, oracle_state

SEEDS = range(40)


def fold_whole(world: World) -> State:
    store = Store(Standing(0))
    dirty: Dirty = {}
    decoded = Decoder(world.topic, [world.table]).decode(batch_of(world.log))
    fold(world.table, decoded, store.standing, dirty, store.known_ids)
    store.commit(dirty)
    return store.state()


def assert_as_oracle(world: World) -> State:
    got, want = fold_whole(world), oracle_state(world.topic, world.table, world.log)
    assert got == want
    assert sum(got.tallies.values()) == len(world.log)
    return got


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(1, 12))
def test_small_logs_are_counted_as_the_oracle_counts_them(r: Random, count: int) -> None:
    for label in assert_as_oracle(random_world(r, count)).tallies:
        event(label)


@pytest.mark.parametrize("time_format", list(TimeFormat))
def test_long_logs_with_every_class_are_counted_as_the_oracle_counts_them(time_format: TimeFormat) -> None:
    tallies: Counter[str] = Counter()
    for seed in SEEDS:
        world = random_world(Random(f"{time_format}-{seed}"), 300, time_format)
        tallies.update(assert_as_oracle(world).tallies)
    expected = {kind.label for kind in TableClass}
    if time_format is TimeFormat.KAFKA:
        expected -= {"late", "expired"}  # Kafka time only rises in these logs
    assert set(tallies) >= expected
    rare = {label: tallies[label] for label in expected if tallies[label] < 30}
    assert not rare, "classes that hardly occur prove little"


def test_kafka_time_running_backwards_makes_late_and_expired_events() -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    table = TableSpec("t", TOPIC, (KeyField(None),), window_ms=10, grace_ms=10, retention_ms=50)
    log = tuple(Line(n, when, b"k", b"{}") for n, when in enumerate((100, 85, 79, 41, 40, 200, -1)))
    state = assert_as_oracle(World(topic, table, log))
    assert state.tallies == {"on_time": 2, "late": 2, "expired": 2, "malformed": 1}


@pytest.mark.parametrize("odd_in", [(1,), (0, 2), (0, 1, 2)])
def test_slices_read_fast_and_slow_line_up(odd_in: tuple[int, ...]) -> None:
    world = random_world(Random(3), 1, TimeFormat.EPOCH_MS)
    table = TableSpec("t", TOPIC, (KeyField("k"),), dedup="id")
    now = 1_700_000_000_000
    lines = []
    for n in range(3 * SLICE - 7):
        value: bytes | None = b'{"k":"%d","id":%d,"t":%d,"user":{"seen":%d},"meta":{"at":%d}}' % (n % 9, n, *(now,) * 3)
        if n // SLICE in odd_in and n % SLICE == 77:
            value = b"odd"
        lines.append(Line(n, now, None, value))
    state = assert_as_oracle(World(world.topic, table, tuple(lines)))
    assert state.tallies == {"on_time": len(lines) - len(odd_in), "malformed": len(odd_in)}


@pytest.mark.parametrize("good", [b'{"k":"a","n":1}', b'{"k":"b", "user":{"id":"\xc3\xbc"}}', b"{}"])
def test_each_odd_record_is_classed_as_the_oracle_classes_it(good: bytes) -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    values = odd_values(good)
    for fields in (("k",), ("odd",), ("odd.x", "k")):
        table = TableSpec("t", TOPIC, tuple(map(KeyField, fields)), window_ms=1)
        for n, value in enumerate(values):
            assert_as_oracle(World(topic, table, (Line(n, 5, None, value),)))
        assert_as_oracle(World(topic, table, tuple(Line(n, 5, None, value) for n, value in enumerate(values))))


@pytest.mark.parametrize("name", ['we"ird', "back\\slash", "tab\t", "\x7f", "é", "", " ", "a.", ".a", "..", "f0.f1"])
def test_any_field_name_can_be_read(name: str) -> None:
    import json

    document: object = "x"
    for part in reversed(name.split(".")):
        document = {part: document}
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    table = TableSpec("t", TOPIC, (KeyField(name),))
    for ascii_only in (True, False):
        value = json.dumps(document, ensure_ascii=ascii_only).encode()
        state = assert_as_oracle(World(topic, table, (Line(0, 5, None, value), Line(1, 5, None, b"{}"))))
        assert state.tallies == {"on_time": 1, "unkeyed": 1}


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (("k",), b'{"k":"%s"}' % (b"x" * 4096)),
        (("k",), b'{"k":"%s"}' % (b"x" * 4097)),
        (("k",), b'{"k":"%s"}' % (b"\xc3\xa9" * 2048)),
        (("k",), b'{"k":"%sx"}' % (b"\xc3\xa9" * 2048)),
        (("k",), b'{"k":"%s"}' % (b"\\u00e9" * 2048)),
        (("k", "k"), b'{"k":"%s"}' % (b"x" * 2045)),
        (("k", "k"), b'{"k":"%s"}' % (b"x" * 2046)),
        (("k", "k"), b'{"k":"%s"}' % (b"\\n" * 1022)),
        (("k", "k"), b'{"k":"%s"}' % (b"\\n" * 1023)),
        (("k",) * 3, b'{"k":"%s"}' % (b"x" * 1361)),
        (("k",) * 3, b'{"k":"%s"}' % (b"x" * 1362)),
        (("k",) * 40, b'{"k":"%s"}' % (b"x" * 99)),
        (("k",) * 40, b'{"k":"%s"}' % (b"x" * 100)),
        ((None, "k"), b'{"k":"a"}'),
    ],
)
def test_a_key_of_4096_bytes_is_counted_and_a_longer_one_is_not(fields: tuple[str | None, ...], value: bytes) -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    table = TableSpec("t", TOPIC, tuple(map(KeyField, fields)))
    keys = [b"k", b"\x01" * 682, b"\x01" * 681, b'"' * 2045, b'"' * 2044, b"x" * 4089, b"x" * 4088]
    assert_as_oracle(World(topic, table, tuple(Line(n, 5, key, value) for n, key in enumerate(keys))))


@pytest.mark.parametrize("length", [1, 340, 341, 342, 681, 682, 683, 2048, 4096, 4097])
@pytest.mark.parametrize("byte", [b"x", b"\x01", b'"'])
@pytest.mark.parametrize("fields", [1, 2, 3])
def test_long_kafka_keys_are_measured_as_they_are_written(length: int, byte: bytes, fields: int) -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
    table = TableSpec("t", TOPIC, (KeyField(None),) * fields)
    assert_as_oracle(World(topic, table, (Line(0, 5, b"a", b"{}"), Line(1, 5, byte * length, b"{}"))))


@pytest.mark.parametrize("seconds", ["1e308", "-1e308", "1e400", "-1e400"])
def test_an_epoch_s_time_too_big_to_be_ms_is_malformed(seconds: str) -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.EPOCH_S, "t"))
    value = b'{"k":"a","t":%s}' % seconds.encode()
    world = World(topic, TableSpec("t", TOPIC, (KeyField("k"),)), (Line(0, 5, None, value),))
    assert fold_whole(world).tallies == {"malformed": 1}
