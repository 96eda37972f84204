"""The fast decoder reads, of any bytes, what the specification reads: alone and among others."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.decode import SLICE, Decoder, decode_slowly, read_times
from domain.errors import MalformedRecordError
from domain.spec import NESTING_MAX, EventTime, KeyField, TableSpec, TimeFormat, TopicSpec
from tests.spec import oracle
from tests.unit.domain.logs import TOPIC, Line, batch_of, odd_values, random_iso, random_world
from tests.unit.domain.store import oracle_topic

PATHS = ("a", "a.b", "c.d.e", "c", "k", "x.y", "é")
DECODER = Decoder(
    TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA)), [TableSpec("t", TOPIC, tuple(KeyField(path) for path in PATHS))]
)
SEEDS_OF_MUTATION = [
    b'{"a":{"b":1},"c":{"d":{"e":"x"}},"k":"key","x":{"y":true}}',
    b'{"a":1,"c":null,"k":-12.5e3,"x":[1,{"y":2}],"z":{"q":[[],{}]}}',
    '{"é":"ü日😀","a":{"b":"\\ud83d\\ude00\\n\\u00e9"},"k":"\\"\\\\/","skip":"日本"}'.encode(),
    b'{"a":{"a":{"b":1}},"c":{"c":1,"d":{"d":2,"e":[true,false,null]}},"a":{"b":123456789012345678901}}',
    b' {\n\t"k" : 0.1 , "skip" : -0 ,\r\n "x" : { "y" : 1E-7 } , "n" : [ ] } ',
    b'{"k":18446744073709551616,"x":{"y":-9223372036854775809},"skip":1e308,"c":{"d":{"e":2.5e-320}}}',
    b'{"skip":"' + "日é".encode() + b'","deep":[[[[[[{"a":{"b":[{}]}}]]]]]],"k":false}',
    b"{}",
]
ALPHABET = [
    bytes([c]) for c in b'{}[]",:\\/ \n\t\r0123456789eE+-.aubtnrflsx\x00\x01\x1f\x7f\x80\xbf\xc3\xa9\xe2\xed\xf0\xff'
]
TOKENS = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"-0", b"-0.0", b"null", b"true", b"\\ud800", b"\\udc00"),
    *(
        b"\\u0000",
        b"\\u006b",
        b'"k":1,',
        b'"a":{"b":5},',
        b"\xed\xa0\x80",
        b"\xe2\x82",
        b"\xac",
        b"\xc0\xaf",
        b"\xef\xbb\xbf",
    ),
    *(
        b"[[[[[[[[",
        b"]]]]]]]]",
        b"1.",
        b".5",
        b"01",
        b"9" * 25,
        b"0." + b"3" * 40,
        b"\xf0\x9f\x98\x80",
        b"\xf4\x90\x80\x80",
    ),
]


def plain(value: Any) -> Any:
    """What a table can tell of a value: type and content of a scalar; of others that they are none."""
    if value is None or isinstance(value, str | int | float):
        return type(value).__name__, repr(value)
    return "array" if isinstance(value, list) else "object"


def by_oracle(value: bytes | None) -> tuple[Any, ...] | None:
    try:
        event = oracle.decode(value)
    except oracle.Malformed:
        return None
    return tuple(plain(oracle.lookup(event, path)) for path in PATHS)


def by_decoder(values: list[bytes | None]) -> list[tuple[Any, ...] | None]:
    decoded = DECODER.decode(batch_of(tuple(Line(n, 5, None, value) for n, value in enumerate(values))))
    rows = zip(*(decoded.columns[path] for path in PATHS), strict=True)
    return [tuple(map(plain, row)) if good else None for good, row in zip(decoded.windowed.tolist(), rows, strict=True)]


def mutate(r: Random, value: bytes) -> bytes:
    for _ in range(r.choice((1, 1, 1, 2, 4))):
        at, to = sorted((r.randint(0, len(value)), r.randint(0, len(value))))
        kind = r.randint(0, 6)
        if kind == 0:
            value = value[:at] + r.choice(ALPHABET) + value[at + 1 :]
        elif kind == 1:
            value = value[:at] + r.choice(ALPHABET) + value[at:]
        elif kind == 2:
            value = value[:at] + value[at + 1 :]
        elif kind == 3:
            value = value[:at] + r.choice(TOKENS) + value[at:]
        elif kind == 4:
            value = value[:to] + value[at:to] + value[to:]
        elif kind == 5:
            value = value[:at] if r.randint(0, 3) == 0 else value[:at] + value[to:]
        else:
            other = r.choice(SEEDS_OF_MUTATION)
            value = value[:at] + other[r.randint(0, len(other)) :]
    return value


@pytest.mark.parametrize("seed", range(8))
def test_mutated_values_are_read_as_the_oracle_reads_them(seed: int) -> None:
    r = Random(seed)
    accepted = 0
    for _ in range(1000):
        value = mutate(r, r.choice(SEEDS_OF_MUTATION))
        want = by_oracle(value)
        accepted += want is not None
        assert by_decoder([value]) == [want], value
    assert 100 < accepted < 900, "both outcomes must be frequent to prove anything"


@pytest.mark.parametrize("seed", range(8))
def test_mutated_values_among_good_ones_are_read_as_the_oracle_reads_them(seed: int) -> None:
    r = Random(100 + seed)
    for _ in range(250):
        values: list[bytes | None] = [r.choice(SEEDS_OF_MUTATION) for _ in range(r.randint(1, 12))]
        for _ in range(r.choice((1, 1, 2, 3))):
            values.insert(r.randint(0, len(values)), mutate(r, r.choice(SEEDS_OF_MUTATION)))
        assert by_decoder(values) == [by_oracle(value) for value in values], values


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=30) | st.sampled_from([*SEEDS_OF_MUTATION, *TOKENS, None]), min_size=1, max_size=6))
def test_any_bytes_are_read_as_the_oracle_reads_them(values: list[bytes | None]) -> None:
    assert by_decoder(values) == [by_oracle(value) for value in values]


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e", "k", "x", "y", "é"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(st.lists(JSONISH, min_size=1, max_size=5), st.booleans())
def test_any_document_is_read_as_the_oracle_reads_it(documents: list[Any], ascii_only: bool) -> None:
    values: list[bytes | None] = [json.dumps(one, ensure_ascii=ascii_only).encode() for one in documents]
    assert by_decoder(values) == [by_oracle(value) for value in values]


def test_every_odd_value_is_read_as_the_oracle_reads_it_wherever_it_stands() -> None:
    for good in (b'{"k":"a","a":{"b":2}}', b"{}"):
        odd = odd_values(good)
        wanted = [by_oracle(value) for value in odd]
        assert 15 < sum(one is not None for one in wanted) < len(odd) - 15
        assert by_decoder(odd) == wanted
        for value, want in zip(odd, wanted, strict=True):
            assert by_decoder([value]) == [want]
            around = by_decoder([good, value, good])
            assert around == [by_oracle(good), want, by_oracle(good)]


@pytest.mark.parametrize(
    "values",
    [
        [b'{"k":"\xe2\x82', b'\xac"}'],
        [b'{"k":"a","z":"\xe2\x82"}', b'\xac{"k":"b"}'],
        [b'{"z":"\xe2\x82"}', b'{"z":"\xac"}'],
        [b'{"k":"a"}\xc3', b'\xa9{"k":"b"}'],
        [b'{"k":"a",', b'"x":{}}'],
        [b'{"k":"a"}\n{"k":"b"}', b'{"k":"c"}'],
        [b'{"k":\n"a"\n}', b'{\n"k":"b\n"}'],
        [b"", b'{"k":"a"}'],
        [None, b'{"k":"a"}'],
        [b'{"k":"\xff"}', b'{"k":"a"}', None],
    ],
)
def test_a_record_broken_at_its_edge_is_not_completed_by_its_neighbour(values: list[bytes | None]) -> None:
    for order in (values, values[::-1], values * 3):
        assert by_decoder(order) == [by_oracle(value) for value in order]


@pytest.mark.parametrize("depth", [1, 2, 63, 64, 65, 66, 1000])
@pytest.mark.parametrize("shape", ["skipped arrays", "skipped objects", "used arrays", "used objects", "mixed"])
@pytest.mark.parametrize("neighbours", [0, 1, 64, SLICE])
def test_depth_is_counted_per_record_however_many_brackets_the_others_hold(
    depth: int, shape: str, neighbours: int
) -> None:
    inner = depth - 1
    if shape.endswith("objects"):
        body = b'{"q":' * inner + b"1" + b"}" * inner
    elif shape == "mixed":
        body = b'[{"q":' * (inner // 2) + (b"[]" if inner % 2 else b"1") + b"}]" * (inner // 2)
    else:
        body = b"[" * inner + b"]" * inner if inner else b"1"
    deep = b'{"%s":%s}' % (b"a" if shape.startswith("used") else b"z", body)
    for near in (b"{}", b'{"a":{"b":[[]]}}', b"1", b"", b'{"k":"[[[[[[[["}'):
        values: list[bytes | None] = [*[near] * (neighbours // 2), deep, *[near] * (neighbours - neighbours // 2)]
        by_near, by_deep = by_oracle(near), by_oracle(deep)
        assert (by_deep is not None) == (depth <= NESTING_MAX)
        assert by_decoder(values) == [by_deep if value is deep else by_near for value in values]


@pytest.mark.parametrize("digits", [1, 18, 19, 20, 40, 4299, 4300, 4301, 5000])
@pytest.mark.parametrize("sign", [b"", b"-"])
@pytest.mark.parametrize("name", [b"k", b"z", b"a"])
def test_integers_of_up_to_4300_digits_are_read(digits: int, sign: bytes, name: bytes) -> None:
    value = b'{"%s":%s%s}' % (name, sign, b"7" * digits)
    assert (by_oracle(value) is not None) == (digits <= 4300)
    assert by_decoder([value]) == [by_oracle(value)]
    assert by_decoder([b"{}", value, b'{"k":1}'])[1] == by_oracle(value)


def test_floats_are_rounded_as_the_oracle_rounds_them() -> None:
    r = Random(5)
    values: list[bytes | None] = []
    for _ in range(4000):
        digits = "".join(r.choice("0123456789") for _ in range(r.randint(1, 30)))
        whole = str(int(digits[: r.randint(1, len(digits))]))
        exponent = r.choice(("", f"e{r.randint(-340, 320)}"))
        values.append(f'{{"k":{r.choice(("", "-"))}{whole}.{digits}{exponent}}}'.encode())
    assert by_decoder(values) == [by_oracle(value) for value in values]


def test_an_object_on_the_way_is_told_from_anything_else() -> None:
    ways = [b'"f0"', b"1", b"1.5", b"true", b"null", b"[]", b'["b"]', b"{}", b'{"b":null}', b'{"b":{}}', b'{"b":[]}']
    values: list[bytes | None] = [
        b"{}",
        *(b'{"a":%s}' % way for way in ways),
        *(b'{"c":{"d":%s}}' % way for way in ways),
    ]
    values += [b'{"x":%s}' % way for way in ways]
    assert by_decoder(values) == [by_oracle(value) for value in values]
    assert by_decoder([*values, b"odd", b'{"k":"\\ud800"}'])[:-2] == by_decoder(values)


EDGE_TIMES: list[Any] = [
    *(253_402_300_799, 253_402_300_800, 253_402_300_799.999, 253_402_300_799.9999, -0.0, -0.0001, 0.0009, 1e22),
    *(
        253_402_300_799_999,
        253_402_300_800_000,
        2**53,
        2**53 + 1,
        2**62,
        2**63,
        -(2**63),
        2**64,
        10**400,
        -(10**400),
    ),
    *("", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999+00:00"),
    *(
        "1969-12-31T23:59:59.999999Z",
        "1970-01-01T00:00:00.000999Z",
        "2026-02-30T00:00:00Z",
        "\ud800",
        "2026-01-01T00:00Z\x00",
    ),
    *("2026-01-01T00:00:60Z", "２０２６-01-01T00:00:00Z", " 2026-01-01T00:00:00Z", "20260101T000000,5Z"),
]
TIMES_IN_JSON = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-10, 254_000_000_000_000),
    st.floats(-1e300, 1e300),  # of more the oracle can't make ms; see the test of a time too big
    st.floats(-1, 254_000_000_000),
    st.sampled_from(EDGE_TIMES),
    st.integers(0, 10**9).map(lambda n: random_iso(Random(n), n * 1000)),
)


FIELD_FORMATS = [TimeFormat.EPOCH_MS, TimeFormat.EPOCH_S, TimeFormat.ISO8601]


def time_by_oracle(raw: Any, time_format: TimeFormat) -> int | None:
    try:
        when: int = oracle.event_time_ms({"t": raw}, {"format": time_format.value, "field": "t"}, 0)
    except oracle.Malformed:
        return None
    return when if oracle.TIME_MIN <= when < oracle.TIME_MAX else None


def times_read(column: list[Any], time_format: TimeFormat) -> list[int | None]:
    got = read_times(column, time_format).tolist()
    return [when if oracle.TIME_MIN <= when < oracle.TIME_MAX else None for when in got]


@settings(max_examples=400)
@given(st.lists(TIMES_IN_JSON, max_size=6), st.sampled_from(FIELD_FORMATS))
def test_times_are_read_as_the_oracle_reads_them(column: list[Any], time_format: TimeFormat) -> None:
    assert times_read(column, time_format) == [time_by_oracle(raw, time_format) for raw in column]


@pytest.mark.parametrize("time_format", FIELD_FORMATS)
def test_every_odd_time_is_read_as_the_oracle_reads_it_alone_and_among_others(time_format: TimeFormat) -> None:
    column = [*EDGE_TIMES, None, True, False, 0, 1, -1, 1.5, [], {}]
    wanted = [time_by_oracle(raw, time_format) for raw in column]
    assert sum(when is not None for when in wanted) > 3
    assert times_read(column, time_format) == wanted
    for raw, want in zip(column, wanted, strict=True):
        assert times_read([raw], time_format) == [want]
        assert times_read([raw, 1.0, 1, "2026-01-01T00:00:00Z"], time_format)[0] == want


@pytest.mark.parametrize("time_format", list(TimeFormat))
def test_topic_classes_and_times_of_long_logs_are_those_of_the_oracle(time_format: TimeFormat) -> None:
    for seed in range(10):
        world = random_world(Random(f"times-{time_format}-{seed}"), 200, time_format)
        decoded = Decoder(world.topic, [world.table]).decode(batch_of(world.log))
        for n, line in enumerate(world.log):
            try:
                when = oracle.classify_topic(line.plain(), oracle_topic(world.topic))[1]
            except oracle.Malformed:
                when = None
            assert (int(decoded.times[n]) if decoded.windowed[n] else None) == when


def test_plausible_times_include_both_ends() -> None:
    topic = TopicSpec(TOPIC, EventTime(TimeFormat.EPOCH_MS, "t"), max_future_ms=10, max_past_ms=20)
    decoder = Decoder(topic, [])
    times = [979, 980, 1010, 1011]
    log = tuple(Line(n, 1000, None, b'{"t":%d}' % when) for n, when in enumerate(times))
    assert decoder.decode(batch_of(log)).windowed.tolist() == [False, True, True, False]


@pytest.mark.parametrize("time_format", [TimeFormat.KAFKA, TimeFormat.EPOCH_MS])
def test_times_lie_from_1970_to_9999_whatever_the_kafka_timestamp(time_format: TimeFormat) -> None:
    times = [-1, 0, oracle.TIME_MAX - 1, oracle.TIME_MAX]
    decoder = Decoder(TopicSpec(TOPIC, EventTime(time_format, "t"), max_future_ms=10, max_past_ms=20), [])
    log = tuple(Line(n, when, None, b'{"t":%d}' % when) for n, when in enumerate(times))
    assert decoder.decode(batch_of(log)).windowed.tolist() == [False, True, True, False]


def test_a_decoded_batch_tells_its_longest_value() -> None:
    log = tuple(Line(n, 5, None, value) for n, value in enumerate((b"{}", None, b'{"k":1}', b"")))
    assert DECODER.decode(batch_of(log)).longest == 7
    assert DECODER.decode(batch_of((), 3, 9)).longest == 0


def test_a_slow_decoder_error_is_a_malformed_record() -> None:
    with pytest.raises(MalformedRecordError, match="NaN is not JSON"):
        decode_slowly(b'{"a":NaN}')
    assert math.isinf(decode_slowly(b'{"a":1e400}')["a"])


def test_a_timed_batch_keeps_times_and_classes() -> None:
    decoded = DECODER.decode(batch_of((Line(0, 5, None, b"{}"), Line(1, 6, None, b"odd"))))
    timed = decoded.timed()
    assert timed.batch is decoded.batch
    assert timed.times.dtype == np.int64
    assert timed.windowed.tolist() == [True, False]
