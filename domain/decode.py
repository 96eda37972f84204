"""Values of a batch into columns: event times and the fields that tables read.

The fast decoder (msgspec) takes what it is known to read as the specification does; every record it rejects,
or could read more generously, is decided by the slow one (the standard library's json).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
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
LONG_INTEGER = re.compile(rb"(?<![0-9])[0-9]{%d}" % (INT_DIGITS_MAX + 1))
FAST_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch with its event times and columns; where not `windowed` (malformed) times and fields mean nothing."""

    batch: Batch
    times: Int64s
    windowed: npt.NDArray[np.bool_]
    columns: Columns
    longest: int  # bytes of the longest value
    slow: bool  # some record was read by the slow decoder: strings may hold lone surrogates

    def timed(self) -> TimedBatch:
        return TimedBatch(self.batch, self.times, self.windowed)


class Decoder:
    """Compiled for one topic and the tables that count it."""

    def __init__(self, topic: TopicSpec, tables: Sequence[TableSpec]) -> None:
        self._topic = topic
        self._paths = sorted(used_fields(topic, tables))
        tree = _Node()
        for path in self._paths:
            tree.add(path.split("."))
        struct = tree.struct("Event")
        self._decode = msgspec.json.Decoder(struct).decode
        self._getters = [tree.getter(path.split(".")) for path in self._paths]

    def decode(self, batch: Batch) -> Decoded:
        columns: list[list[Any]] = [[] for _ in self._paths]
        good: list[bool] | None = None
        longest, slow = 0, False
        for first in range(0, len(batch), SLICE):
            values = batch.values[first : first + SLICE]
            size = _longest(values)
            longest = max(longest, size)
            events = self._decode_fast(values, size)
            if events is not None:
                for column, getter in zip(columns, self._getters, strict=True):
                    column.extend(map(getter, events))
                if good is not None:
                    good.extend([True] * len(values))
                continue
            slow = True
            rows = [self._decode_one(value) for value in values]
            good = [True] * first if good is None else good
            good.extend(row is not None for row in rows)
            empty = (None,) * len(self._paths)
            for column, cells in zip(columns, zip(*(row or empty for row in rows), strict=True), strict=False):
                column.extend(cells)
        named = dict(zip(self._paths, columns, strict=True))
        windowed = np.ones(len(batch), np.bool_) if good is None else np.array(good, np.bool_)
        times = self._times(named, batch, windowed)
        return Decoded(batch, times, windowed, named, longest, slow)

    def _decode_fast(self, values: Sequence[bytes | None], longest: int) -> list[Any] | None:
        """All events of a slice, or None when any of them needs a closer look."""
        try:
            joined = b"\n".join(values)  # type: ignore[arg-type]
            if not joined.isascii():
                joined.decode()  # the newline between keeps a broken sequence from completing in the next value
            if longest >= SHORT and self._suspect(joined, values):
                return None
            if longest > INT_DIGITS_MAX and any(map(_may_hold_long_integer, values)):
                return None
            return list(map(self._decode, values))  # type: ignore[arg-type]
        except (*FAST_ERRORS, TypeError):
            return None

    @staticmethod
    def _suspect(joined: bytes, values: Sequence[bytes | None]) -> bool:
        """Whether any value may nest too deep. Each has one opening bracket at least, or isn't an object."""
        return joined.count(b"{") + joined.count(b"[") >= len(values) + NESTING_MAX and any(map(_may_nest, values))

    def _decode_one(self, value: bytes | None) -> tuple[Any, ...] | None:
        """The used fields of one event, None when malformed."""
        if value is None:
            return None
        if not (_may_nest(value) or _may_hold_long_integer(value)):
            try:
                value.decode()
                event = self._decode(value)
                return tuple(getter(event) for getter in self._getters)
            except FAST_ERRORS:
                pass
        try:
            document = decode_slowly(value)
        except MalformedRecordError:
            return None
        return tuple(lookup(document, path) for path in self._paths)

    def _times(self, columns: Columns, batch: Batch, windowed: npt.NDArray[np.bool_]) -> Int64s:
        """Event times; clears `windowed` where there is none or it isn't plausible."""
        rule = self._topic.event_time
        if rule.format is TimeFormat.KAFKA:
            times = batch.timestamps
        else:
            times = read_times(columns[rule.field], rule.format)
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
    """Times in ms, -1 where the value isn't a time of this format."""
    if time_format is TimeFormat.EPOCH_MS and set(map(type, column)) <= {int}:
        try:
            return np.array(column, np.int64)
        except OverflowError:
            pass
    return np.array([read_time(raw, time_format) for raw in column], np.int64)


def read_time(raw: Any, time_format: TimeFormat) -> int:
    """One time in ms, -1 when it is of another type or outside 1970-9999."""
    if time_format is TimeFormat.ISO8601:
        when = _iso_ms(raw)
    elif time_format is TimeFormat.EPOCH_S and isinstance(raw, float):
        when = math.floor(raw * 1000) if math.isfinite(raw * 1000) else -1
    elif isinstance(raw, bool) or not isinstance(raw, int):
        when = -1
    else:
        when = raw * 1000 if time_format is TimeFormat.EPOCH_S else raw
    return when if TIME_MIN_MS <= when < TIME_END_MS else -1


def _iso_ms(raw: Any) -> int:
    if not isinstance(raw, str):
        return -1
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        return -1
    if moment.tzinfo is None:
        return -1
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def decode_slowly(value: bytes) -> dict[str, Any]:
    """A JSON object in strict UTF-8, nested at most NESTING_MAX deep. Raises MalformedRecordError."""
    try:
        event = json.loads(value.decode("utf-8"), parse_constant=_no_constant)
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


def lookup(event: dict[str, Any], path: str) -> Any:
    here: Any = event
    for name in path.split("."):
        if not isinstance(here, dict) or name not in here:
            return None
        here = here[name]
    return here


def _longest(values: Sequence[bytes | None]) -> int:
    try:
        return max(map(len, values))  # type: ignore[arg-type]
    except TypeError:
        return max(map(len, filter(None, values)), default=0)


def _no_constant(name: str) -> Any:
    raise MalformedRecordError(f"{name} is not JSON")


def _may_nest(value: bytes | None) -> bool:
    return value is not None and len(value) >= SHORT and value.count(b"{") + value.count(b"[") > NESTING_MAX


def _may_hold_long_integer(value: bytes | None) -> bool:
    return value is not None and len(value) > INT_DIGITS_MAX and LONG_INTEGER.search(value) is not None


@dataclass(slots=True)
class _Node:
    """A tree of used field names, made into msgspec structs that skip everything else."""

    children: dict[str, _Node] = field(default_factory=dict)
    type: Any = None

    def add(self, names: list[str]) -> None:
        node = self
        for name in names:
            node = node.children.setdefault(name, _Node())

    def struct(self, name: str) -> Any:
        """A struct type for an inner node. Fields that aren't objects where a path goes on keep their plain value."""
        fields: list[tuple[str, Any, Any]] = []
        for index, child in enumerate(self.children.values()):
            kind: Any = Any
            if child.children:
                inner = child.struct(f"{name}{index}")
                kind = Union[inner, None, str, int, float, bool, list[Any]]  # noqa: UP007 - `inner` is a value
            fields.append((f"f{index}", kind, None))
        names = {f"f{index}": child for index, child in enumerate(self.children)}
        self.type = msgspec.defstruct(name, fields, rename=names, gc=False)
        return self.type

    def getter(self, names: list[str]) -> Getter:
        node, path, guards = self, [], []
        for name in names:
            guards.append(node.type)
            path.append(f"f{list(node.children).index(name)}")
            node = node.children[name]
        if len(path) == 1:
            return attrgetter(path[0])

        def get(event: Any) -> Any:
            for kind, attribute in zip(guards, path, strict=True):
                if type(event) is not kind:
                    return None
                event = getattr(event, attribute)
            return event

        return get
