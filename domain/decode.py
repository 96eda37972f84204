"""Values of a batch into columns: event times and the fields that tables read.

The fast decoder (msgspec) takes what it is known to read as the specification does; every record it rejects,
or could misread, is decided by the slow one (the standard library's json).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import repeat
from operator import attrgetter, contains, floordiv, sub
from typing import Any, Union

import msgspec
import numpy as np
import numpy.typing as npt

from domain.errors import MalformedRecordError
from domain.record import Batch, Int64s, TimedBatch
from domain.spec import (
    INT_DIGITS_MAX,
    NESTING_MAX,
    TIME_END_MS,
    TIME_MIN_MS,
    TableSpec,
    TimeFormat,
    TopicSpec,
)

Columns = dict[str, list[Any]]
Getter = Callable[[Any], Any]

SLICE = 500  # records decoded at once: larger ones fall out of the cache
SHORT = 2 * (NESTING_MAX + 1)  # a shorter value can't nest too deep
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
TIME_TYPES: dict[TimeFormat, tuple[set[type], Any]] = {
    TimeFormat.EPOCH_MS: ({int}, -1),
    TimeFormat.EPOCH_S: ({int, float}, -1),
    TimeFormat.ISO8601: ({str}, "1969-12-31T23:59:59.999+00:00"),
}
"""Of each format the types its times have, and what stands for a time of another type."""
LONG_INTEGER = re.compile(rb"(?<![0-9])[0-9]{%d}" % (INT_DIGITS_MAX + 1))
PLAIN_PATH = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]*')  # names that a msgspec struct can have
FAST_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def _no_constant(name: str) -> Any:
    raise MalformedRecordError(f"{name} is not JSON")


JSON = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch with its event times and columns; where not `windowed` (malformed) times and fields mean nothing."""

    batch: Batch
    times: Int64s
    windowed: npt.NDArray[np.bool_]
    columns: Columns
    longest: int  # bytes of the longest value
    slow: bool  # some event is the slow decoder's: strings may hold lone surrogates

    def timed(self) -> TimedBatch:
        return TimedBatch(self.batch, self.times, self.windowed)


class Decoder:
    """Compiled for one topic and the tables that count it."""

    def __init__(self, topic: TopicSpec, tables: Sequence[TableSpec]) -> None:
        self._topic = topic
        self._paths = sorted(used_fields(topic, tables))
        self._tree = _Node()
        for path in self._paths:
            self._tree.add(path.split("."))
        event_type = self._tree.compile("Event")
        fast = all(map(PLAIN_PATH.fullmatch, self._paths))
        self._decode = msgspec.json.Decoder(event_type).decode if fast else _reject
        self._blank = event_type()
        self._getters = [self._tree.getter(path.split(".")) for path in self._paths]

    def decode(self, batch: Batch) -> Decoded:
        columns: list[list[Any]] = [[] for _ in self._paths]
        malformed: list[int] = []
        longest, slow = 0, False
        for first in range(0, len(batch), SLICE):
            values = batch.values[first : first + SLICE]
            size = max(map(len, filter(None, values)), default=0)
            longest = max(longest, size)
            fast = iter(_cleared(values, size))
            events: list[Any] = []
            while len(events) < len(values):
                try:
                    events.extend(map(self._decode, fast))
                except FAST_ERRORS:
                    # Those before it are in; it is the one last taken from `fast`.
                    event = self._event(values[len(events)])
                    if event is None:
                        malformed.append(first + len(events))
                    slow |= event is not None
                    events.append(event or self._blank)
            for column, getter in zip(columns, self._getters, strict=True):
                column.extend(_read_column(getter, events))
        named = dict(zip(self._paths, columns, strict=True))
        windowed = np.ones(len(batch), np.bool_)
        windowed[malformed] = False
        times = self._times(named, batch, windowed)
        return Decoded(batch, times, windowed, named, longest, slow)

    def _event(self, value: bytes | None) -> Any:
        """The event of a record that the fast decoder rejects, None when malformed."""
        try:
            return None if value is None else self._tree.event(decode_slowly(value))
        except MalformedRecordError:
            return None

    def _times(self, columns: Columns, batch: Batch, windowed: npt.NDArray[np.bool_]) -> Int64s:
        """Event times; clears `windowed` where there is none or it isn't plausible."""
        rule = self._topic.event_time
        from_kafka = rule.format is TimeFormat.KAFKA
        times = batch.timestamps if from_kafka else read_times(columns[rule.field], rule.format)
        low = np.maximum(batch.timestamps - self._topic.max_past_ms, TIME_MIN_MS)
        high = np.minimum(batch.timestamps + self._topic.max_future_ms, TIME_END_MS - 1)
        windowed &= (times >= low) & (times <= high)
        return times


def used_fields(topic: TopicSpec, tables: Iterable[TableSpec]) -> set[str]:
    """Dotted names of every field that decides a time, key, condition or event id."""
    used = {topic.event_time.field} if topic.event_time.format is not TimeFormat.KAFKA else set()
    for table in tables:
        used.update(one.field for one in table.key if one.field is not None)
        used.update(rule.field for rule in table.where)
        if table.dedup is not None:
            used.add(table.dedup)
    return used


def read_times(column: list[Any], time_format: TimeFormat) -> Int64s:
    """Times in ms, below 0 where the value isn't a time of this format."""
    kinds, no_time = TIME_TYPES[time_format]
    if not set(map(type, column)) <= kinds:
        column = [raw if type(raw) in kinds else no_time for raw in column]
    try:
        return _read_times_fast(column, time_format)
    except (OverflowError, TypeError, ValueError):
        return np.array([read_time(raw, time_format) for raw in column], np.int64)


def _read_times_fast(column: list[Any], time_format: TimeFormat) -> Int64s:
    """Raises OverflowError, TypeError or ValueError when any of them needs a closer look."""
    if time_format is TimeFormat.EPOCH_MS:
        return np.array(column, np.int64)
    if time_format is TimeFormat.EPOCH_S:
        # Of the integers those below the year 10000 are exact in a float, in ms too.
        with np.errstate(over="ignore"):
            ms = np.floor(np.array(column, np.float64) * 1000.0)
        return np.where((ms >= TIME_MIN_MS) & (ms < TIME_END_MS), ms, -1.0).astype(np.int64)
    moments = map(datetime.fromisoformat, column)
    return np.array(list(map(floordiv, map(sub, moments, repeat(EPOCH)), repeat(MILLISECOND))), np.int64)


def read_time(raw: str | float, time_format: TimeFormat) -> int:
    """One time in ms, -1 when it is none or outside 1970-9999."""
    if isinstance(raw, str):
        when = _iso_ms(raw)
    elif isinstance(raw, float):
        when = math.floor(raw * 1000) if math.isfinite(raw * 1000) else -1
    else:
        when = raw * 1000 if time_format is TimeFormat.EPOCH_S else raw
    return when if TIME_MIN_MS <= when < TIME_END_MS else -1


def _iso_ms(raw: str) -> int:
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        return -1
    return -1 if moment.tzinfo is None else (moment - EPOCH) // MILLISECOND


def decode_slowly(value: bytes) -> dict[str, Any]:
    """A JSON object in strict UTF-8, nested at most NESTING_MAX deep. Raises MalformedRecordError."""
    try:
        event = JSON.decode(value.decode())
    except (ValueError, RecursionError) as err:
        raise MalformedRecordError(str(err)) from err
    if not isinstance(event, dict):
        raise MalformedRecordError("not an object")
    if nesting(event) > NESTING_MAX:
        raise MalformedRecordError("nested too deep")
    return event


def nesting(value: Any) -> int:
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def _reject(_: bytes) -> Any:
    """Stands for the fast decoder where it can't be told a field's name."""
    raise msgspec.DecodeError


def _cleared(values: Sequence[bytes | None], longest: int) -> Sequence[bytes]:
    """The values, with an empty one, which every decoder rejects, for each that the fast one could misread."""
    try:
        joined = b"\n".join(values)  # type: ignore[arg-type]
        if not joined.isascii():
            joined.decode()  # the newline between keeps a broken sequence from completing in the next value
    except (TypeError, UnicodeDecodeError):
        return [b"" if value is None or not _is_utf8(value) or _is_doubtful(value) else value for value in values]
    if longest > INT_DIGITS_MAX or (longest >= SHORT and _may_nest(joined, values)):
        return [b"" if value is None or _is_doubtful(value) else value for value in values]
    return values  # type: ignore[return-value]


def _may_nest(joined: bytes, values: Sequence[bytes | None]) -> bool:
    """Whether one of them may nest too deep; each that holds an object has one opening bracket at least."""
    brackets = joined.count(b"{") + joined.count(b"[")
    objects = sum(map(contains, values, repeat(b"{")))  # type: ignore[arg-type]
    return brackets >= objects + NESTING_MAX


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_doubtful(value: bytes) -> bool:
    """Whether a value may nest too deep or hold an integer too long."""
    if len(value) >= SHORT and value.count(b"{") + value.count(b"[") > NESTING_MAX:
        return True
    return len(value) > INT_DIGITS_MAX and LONG_INTEGER.search(value) is not None


def _read_column(getter: Getter, events: list[Any]) -> list[Any]:
    try:
        return list(map(getter, events))
    except AttributeError:
        return [_read(getter, event) for event in events]


def _read(getter: Getter, event: Any) -> Any:
    try:
        return getter(event)
    except AttributeError:  # something else than an object where the path goes on
        return None


@dataclass(slots=True)
class _Node:
    """A tree of used field names, made into msgspec structs that skip everything else."""

    children: dict[str, _Node] = field(default_factory=dict)
    used: bool = False  # as a whole, besides what is in it
    type: Any = None

    def add(self, names: list[str]) -> None:
        node = self
        for name in names:
            node = node.children.setdefault(name, _Node())
        node.used = True

    def compile(self, name: str) -> Any:
        """A struct type for an inner node. Fields that aren't objects where a path goes on keep their plain value."""
        fields: list[tuple[str, Any, Any]] = []
        for index, child in enumerate(self.children.values()):
            if not child.children:
                fields.append((f"f{index}", Any, None))
                continue
            inner = child.compile(f"{name}{index}")
            kind: Any = Union[inner, None, str, int, float, bool, list[Any]]  # noqa: UP007 - `inner` is a value
            # An absent object reads like an empty one, unless a table asks whether it is there.
            fields.append((f"f{index}", kind, None if child.used else inner()))
        plain = all(map(PLAIN_PATH.fullmatch, self.children))
        names = {f"f{index}": child for index, child in enumerate(self.children)} if plain else None
        self.type = msgspec.defstruct(name, fields, rename=names, gc=False, frozen=True)
        return self.type

    def event(self, document: dict[str, Any]) -> Any:
        """A document of the slow decoder as the fast one gives it."""
        present = (
            (f"f{index}", self.children[name], document[name])
            for index, name in enumerate(self.children)
            if name in document
        )
        return self.type(
            **{
                attribute: child.event(value) if child.children and isinstance(value, dict) else value
                for attribute, child, value in present
            }
        )

    def getter(self, names: list[str]) -> Getter:
        node, path = self, []
        for name in names:
            path.append(f"f{list(node.children).index(name)}")
            node = node.children[name]
        return attrgetter(".".join(path))
