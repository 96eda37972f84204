"""Random topics, tables and logs in which every class and every kind of odd record occurs.

All of it draws from one `random.Random`: a seeded one makes a big log, hypothesis' own one that shrinks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import numpy as np

from domain.record import Batch
from domain.spec import KEY_BYTES_MAX, EventTime, KeyField, KeyType, TableSpec, TimeFormat, TopicSpec, WhereRule

TOPIC = "clicks"
TIME_PATHS = ("t", "meta.at", "user.seen")
KEY_PATHS = ("k", "user.id", "user", "meta.lang", "n", "flag", "user.id.deep", "", "a..b", "schlüssel")
WHERE_PATHS = ("country", "bot", "score", "user", "meta.lang", "k")
ID_PATHS = ("id", "meta.id", "n")
STRINGS = ("a", "b", "ü", "日本", "", "a b", 'q"\\/', "\x7f\u2028", "\n\t\x01", "😀")
NUMBERS: tuple[Any, ...] = (0, 1, -1, 2, 7, 1.0, 0.0, -0.0, 1.5, 1e300, 2**31, 2**63, -(2**63) - 1, 2**64, 10**40)
SURROGATES = ("\ud800", "x\udc00", "\udc00\ud800")


@dataclass(frozen=True)
class Line:
    """One record of a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None

    def plain(self) -> dict[str, Any]:
        return {"offset": self.offset, "timestamp": self.timestamp, "key": self.key, "value": self.value}


@dataclass(frozen=True)
class World:
    """A log with what counts it."""

    topic: TopicSpec
    table: TableSpec
    log: tuple[Line, ...]


def batch_of(lines: tuple[Line, ...], start: int | None = None, end: int | None = None) -> Batch:
    """A batch of these records; without bounds it covers just them."""
    low = lines[0].offset if lines else 0
    high = lines[-1].offset + 1 if lines else low
    return Batch(
        topic=TOPIC,
        partition=0,
        start=low if start is None else start,
        end=high if end is None else end,
        offsets=np.array([line.offset for line in lines], np.int64),
        timestamps=np.array([line.timestamp for line in lines], np.int64),
        keys=[line.key for line in lines],
        values=[line.value for line in lines],
    )


def chance(r: Random, percent: int) -> bool:
    """Shrinks to False."""
    return r.randint(0, 99) >= 100 - percent


def random_world(r: Random, count: int, time_format: TimeFormat | None = None) -> World:
    topic = random_topic(r, time_format)
    table = random_table(r)
    return World(topic, table, random_log(r, topic, table, count))


def random_topic(r: Random, time_format: TimeFormat | None = None) -> TopicSpec:
    chosen = time_format or r.choice(list(TimeFormat))
    path = "" if chosen is TimeFormat.KAFKA else r.choice(TIME_PATHS)
    return TopicSpec(TOPIC, EventTime(chosen, path), max_future_ms=r.choice((20_000, 0)), max_past_ms=200_000)


def random_table(r: Random) -> TableSpec:
    fields = [
        KeyField(r.choice(KEY_PATHS), r.choice((KeyType.STRING, KeyType.STRING, KeyType.INT, KeyType.BOOL)))
        if chance(r, 85)
        else KeyField(None)
        for _ in range(r.choice((1, 1, 1, 2, 3)))
    ]
    return TableSpec(
        "views",
        TOPIC,
        tuple(fields),
        where=tuple(random_rule(r) for _ in range(r.choice((0, 0, 1, 2)))),
        window_ms=r.choice((1000, 10_000, 10_000, 7)),
        grace_ms=r.choice((10_000, 0, 3000)),
        retention_ms=r.choice((50_000, 20_000, 1000)),
        dedup=r.choice((None, *ID_PATHS)),
    )


def random_rule(r: Random) -> WhereRule:
    path = r.choice(WHERE_PATHS)
    kind = r.randint(0, 2)
    if kind == 0:
        return WhereRule(path, exists=chance(r, 60))
    values = ("CN", "a", 1, True, 1.0, 0.0, False, float("inf"), 10**40)
    return WhereRule(path, allowed=tuple(r.choice(values) for _ in range(r.randint(1, 1 if kind == 1 else 4))))


def random_log(r: Random, topic: TopicSpec, table: TableSpec, count: int) -> tuple[Line, ...]:
    """Ascending offsets with holes; Kafka time rises, event times lag behind it by all sorts of amounts."""
    lines = []
    offset, now = r.choice((0, 5, 2**40)), 1_700_000_000_000
    for _ in range(count):
        now += r.choice((0, 1, 50, 900, 5000))
        lag = r.choice((0, 1, 100, 100, 2000, 15_000, 45_000, 190_000, 250_000, -15_000, -25_000, 0, 0))
        value = random_value(r, topic, table, now - lag)
        lines.append(Line(offset, now, random_kafka_key(r, table), value))
        offset += r.choice((1, 1, 1, 2, 9))
    return tuple(lines)


def random_kafka_key(r: Random, table: TableSpec) -> bytes | None:
    if not any(one.field is None for one in table.key):
        return r.choice((None, b"k"))
    odd = (None, b"\xff", b"\xed\xa0\x80", b"", b"x" * KEY_BYTES_MAX, b"x" * (KEY_BYTES_MAX + 1), b"\x01" * 900)
    return r.choice(odd) if chance(r, 20) else r.choice((b"a", b"b", "ü".encode()))


def random_value(r: Random, topic: TopicSpec, table: TableSpec, when: int) -> bytes | None:
    text = random_text(r, topic, table, when)
    if chance(r, 6):
        return random_odd(r, text)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")  # a lone surrogate as its JSON escape


def random_text(r: Random, topic: TopicSpec, table: TableSpec, when: int) -> str:
    """An event that mostly has what the table asks for."""
    event: dict[str, Any] = {}
    for rule in table.where:
        if rule.exists is False and not chance(r, 20):
            continue
        put(
            r,
            event,
            rule.field,
            r.choice((*(rule.allowed or ("x",)), *((*STRINGS, *NUMBERS) if chance(r, 30) else ()))),
        )
    for one in table.key:
        if one.field is not None:
            put(r, event, one.field, random_key_part(r, one.type))
    if table.dedup is not None and chance(r, 80):
        put(r, event, table.dedup, random_id(r))
    if topic.event_time.field and not chance(r, 3):
        put(r, event, topic.event_time.field, random_time(r, topic.event_time.format, when))
    for name in ("extra", "user", "meta", "bot"):
        if chance(r, 15) and name not in event:
            event[name] = random_scalar(r)
    if chance(r, 20):
        event["extra"] = {"a": [1, {"b": [r.choice(NUMBERS), r.choice(STRINGS)]}], "k": {"k": "no"}}
    return render(r, event)


def put(r: Random, event: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted field, now and then with something else than objects on its way."""
    *outer, last = path.split(".")
    here = event
    for name in outer:
        if chance(r, 4):
            here[name] = r.choice((None, "user", 5, True, [1], {}))
            return
        inner = here.get(name)
        if not isinstance(inner, dict):
            inner = here[name] = {}
        here = inner
    here[last] = value


def random_key_part(r: Random, kind: KeyType) -> Any:
    if chance(r, 10):
        return random_scalar(r)
    if chance(r, 3):
        return r.choice(SURROGATES)
    if chance(r, 6):
        # Bytes, not characters, are counted; several fields need room for quotes, commas and brackets.
        room = KEY_BYTES_MAX - r.choice((-1, 0, 1, 2, 4, 7))
        filler = r.choice(("x", "é", "日", "\n", '"'))
        length = len(filler.encode())
        return filler * (room // length) + "y" * (room % length)
    good: dict[KeyType, tuple[Any, ...]] = {
        KeyType.STRING: STRINGS,
        KeyType.INT: (0, 1, 2, -5, 2**63, -(2**70)),
        KeyType.BOOL: (True, False),
    }
    return r.choice(good[kind])


def random_id(r: Random) -> Any:
    odd = (True, 1.0, None, [1], {"a": 1}, "x" * 62, "x" * 63, "x" * 64, "x" * 70, "\ud800", 10**70)
    return r.choice(odd) if chance(r, 25) else r.choice((1, 2, 3, "1", "2", "i1", "s1", ""))


def random_scalar(r: Random) -> Any:
    return r.choice((None, True, False, [], ["a"], {"b": 1}, *STRINGS, *NUMBERS))


def random_time(r: Random, time_format: TimeFormat, when: int) -> Any:
    if chance(r, 4):
        return r.choice((None, True, "now", "17", -1, 2**63, 2**80, -(2**80), 1.5, 253_402_300_800_000, [], {}))
    if time_format is TimeFormat.EPOCH_S:
        return r.choice((when // 1000, when / 1000, when / 1000 + 0.0004999, float(when // 1000)))
    if time_format is TimeFormat.ISO8601:
        return random_iso(r, when)
    return when


def random_iso(r: Random, when: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=when, microseconds=r.choice((0, 1, 999)))
    zone = timezone(r.choice((timedelta(), timedelta(hours=5, minutes=30), timedelta(hours=-12, seconds=7))))
    text = moment.astimezone(zone).isoformat()
    forms = (
        text,
        moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        moment.strftime("%Y%m%dT%H%M%SZ"),
        moment.strftime("%G-W%V-%u %H:%M:%S+00:00"),
        moment.strftime("%Y-%m-%dT%H:%M:%S,%f+00:00"),
    )
    without_zone = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return without_zone if chance(r, 5) else r.choice(forms)


def render(r: Random, event: dict[str, Any]) -> str:
    """JSON text in one of its forms, at times with fields given twice (the last one holds)."""
    separators = r.choice(((",", ":"), (", ", ": "), (" ,\t", " :\r\n")))
    indent = r.choice((None, None, None, 2))
    text = json.dumps(event, ensure_ascii=chance(r, 40), separators=separators, indent=indent)
    text = text.replace("Infinity", "1e400")
    if event and chance(r, 10):
        name = json.dumps(r.choice(list(event)))
        other = json.dumps(random_scalar(r), ensure_ascii=True)
        twice = f"{name}:{other}"
        text = f"{{{twice},{text[1:]}" if chance(r, 50) else f"{text[:-1]},{twice}}}"
    return text


def random_odd(r: Random, text: str) -> bytes | None:
    """A record that is malformed, or only just isn't."""
    good = text.encode("utf-8", "backslashreplace")
    return r.choice(odd_values(good))


def odd_values(good: bytes) -> list[bytes | None]:
    """Every kind of odd record made of one good object."""

    def with_extra(extra: bytes) -> bytes:
        return good.rstrip()[:-1] + (b',"odd":' if good.strip() != b"{}" else b'"odd":') + extra + b"}"

    def nested(depth: int) -> bytes:
        return with_extra(b"[" * (depth - 1) + b"]" * (depth - 1))

    return [
        None,
        b"",
        b" ",
        b"not json",
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b"[" + good + b"]",
        with_extra(b"NaN"),
        with_extra(b"Infinity"),
        with_extra(b"-Infinity"),
        with_extra(b'"\xff"'),
        with_extra(b'"\xe2\x82"'),
        with_extra(b'"\xed\xa0\x80"'),
        with_extra(b'"\xc0\xaf"'),
        with_extra(b'"\\ud800"'),
        with_extra(b'"\\ud83d\\ude00"'),
        with_extra(b'"\\x"'),
        with_extra(b'"\x00"'),
        with_extra(b'"\n"'),
        with_extra(b'"\x1f"'),
        with_extra(b'"\x7f"'),
        with_extra(b"9" * 4300),
        with_extra(b"-" + b"9" * 4300),
        with_extra(b"9" * 4301),
        with_extra(b"-" + b"9" * 5000),
        with_extra(b"9" * 5000 + b".5"),
        with_extra(b"1." + b"9" * 5000),
        with_extra(b'"' + b"9" * 5000 + b'"'),
        nested(64),
        nested(65),
        nested(1000),
        nested(100_000),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        with_extra(b'"' + b"[" * 200 + b'"'),
        with_extra(b"[" + b",".join([b"{}"] * 100) + b"]"),
        with_extra(b"1e400"),
        with_extra(b"-1e400"),
        with_extra(b"-0"),
        with_extra(b"-0.0"),
        with_extra(b"01"),
        with_extra(b"1."),
        with_extra(b"+1"),
        with_extra(b"[1,]"),
        with_extra(b"'x'"),
        good[:-1],
        good + b"}",
        good + b" x",
        good + b"\x00",
        good + b"\n" + good,
        good + b" \r\n\t",
        b"\n\t " + good,
        b"\xef\xbb\xbf" + good,
        b"\x0c" + good,
        good + b"\xc2\xa0",
        b"// x\n" + good,
        good.replace(b'"', b"'"),
        good.decode().encode("utf-16"),
    ]
