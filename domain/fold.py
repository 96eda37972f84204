"""The counting function: a decoded batch folded into a table's dirty set.

Pure but for `Dirty` and `Standing`, which it updates: the same log gives the same state however it is cut into
batches, whoever runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import compress, repeat
from operator import is_, is_not
from typing import Any

import numpy as np
import numpy.typing as npt

from domain.certificate import Certificate, ClassCount
from domain.decode import Columns, Decoded
from domain.keys import PYTHON_TYPES, RawKey, encode_id, encode_key, kafka_key_texts, key_fits
from domain.record import Int64s
from domain.spec import KEY_BYTES_MAX, KeyField, Scalar, TableSpec, WhereRule

Mask = npt.NDArray[np.bool_]
KnownIds = Callable[[int, Sequence[bytes]], Sequence[int | None]]
"""(window start, event ids) -> the offset each was first counted at in that window before this dirty set, or None."""

NO_TIME = np.iinfo(np.int64).min


class TableClass(IntEnum):
    """Classes of records as a table sees them; the order is that of the tallies."""

    ON_TIME = 0
    LATE = 1
    EXPIRED = 2
    DUPLICATE = 3
    FILTERED = 4
    UNKEYED = 5
    MALFORMED = 6

    @property
    def label(self) -> str:
        return self.name.lower()


COUNTED = (TableClass.ON_TIME, TableClass.LATE, TableClass.EXPIRED)


@dataclass(slots=True)
class Standing:
    """Where a table's fold stands in one partition: what its progress row says."""

    next_offset: int
    stream_time: int | None = None
    tallies: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class DirtyWindow:
    """Counts added to one window since the last cut; `last` holds each touched key's last offset."""

    on_time: Counter[RawKey] = field(default_factory=Counter)
    late: Counter[RawKey] = field(default_factory=Counter)
    last: dict[RawKey, int] = field(default_factory=dict)
    ids: dict[bytes, int] = field(default_factory=dict)
    certificate: Certificate = field(default_factory=Certificate)


Dirty = dict[int, DirtyWindow]


@dataclass(slots=True)
class Ahead:
    """Rows whose own offset is past the progress they were read with (a torn transaction).

    Events at or below a row's offset are in it already. `until` is the highest such offset.
    """

    cells: dict[tuple[int, bytes], int] = field(default_factory=dict)
    certificates: dict[int, int] = field(default_factory=dict)
    until: int = -1


def fold(
    table: TableSpec,
    decoded: Decoded,
    standing: Standing,
    dirty: Dirty,
    known_ids: KnownIds,
    ahead: Ahead | None = None,
) -> None:
    """Fold the records of a batch at or above `standing.next_offset`; leaves it at the batch's end."""
    batch = decoded.batch
    if batch.end <= standing.next_offset:
        return
    first = 0
    if len(batch) and int(batch.offsets[0]) < standing.next_offset:
        first = int(np.searchsorted(batch.offsets, standing.next_offset))
    if first < len(batch):
        part = _Part(table, decoded, first)
        _fold_part(part, standing, dirty, known_ids, ahead if ahead and batch.start <= ahead.until else None)
    standing.next_offset = batch.end


class _Part:
    """The tail of a decoded batch that a table has not seen."""

    def __init__(self, table: TableSpec, decoded: Decoded, first: int) -> None:
        whole = first == 0
        batch = decoded.batch
        self.table = table
        self.offsets: Int64s = batch.offsets if whole else batch.offsets[first:]
        self.times: Int64s = decoded.times if whole else decoded.times[first:]
        self.windowed: Mask = decoded.windowed if whole else decoded.windowed[first:]
        self.columns: Columns = decoded.columns if whole else {p: c[first:] for p, c in decoded.columns.items()}
        self.kafka_keys = batch.keys if whole else batch.keys[first:]
        self.keys, self.keyed = read_keys(table.key, self.columns, self.kafka_keys, decoded)

    def __len__(self) -> int:
        return len(self.offsets)


def _fold_part(part: _Part, standing: Standing, dirty: Dirty, known_ids: KnownIds, ahead: Ahead | None) -> None:
    table = part.table
    everything = bool(part.windowed.all())
    stream_times = _stream_times(part, everything, standing.stream_time)
    if int(stream_times[-1]) != NO_TIME:
        standing.stream_time = int(stream_times[-1])
    starts = part.times - part.times % table.window_ms
    classes = np.zeros(len(part), np.int8)
    ends = starts + table.window_ms
    classes[stream_times >= ends + table.grace_ms] = TableClass.LATE
    classes[stream_times >= ends + table.retention_ms] = TableClass.EXPIRED
    if table.where:
        classes[~passes(table.where, part.columns, len(part))] = TableClass.FILTERED
    if part.keyed is not None:
        classes[~part.keyed] = TableClass.UNKEYED
    if not everything:
        classes[~part.windowed] = TableClass.MALFORMED
    if table.dedup is not None:
        _mark_duplicates(table.dedup, part, starts, classes, dirty, known_ids)
    tally(standing.tallies, classes)
    _count(part, starts, classes, dirty, ahead)


def _stream_times(part: _Part, everything: bool, before: int | None) -> Int64s:
    """Stream time at each record, that record included."""
    known = part.times if everything else np.where(part.windowed, part.times, NO_TIME)
    running: Int64s = np.maximum.accumulate(known)
    return running if before is None else np.maximum(running, before)


def tally(tallies: dict[str, int], classes: npt.NDArray[np.int8]) -> None:
    for kind, count in enumerate(np.bincount(classes, minlength=len(TableClass)).tolist()):
        if count:
            label = TableClass(kind).label
            tallies[label] = tallies.get(label, 0) + count


def _count(part: _Part, starts: Int64s, classes: npt.NDArray[np.int8], dirty: Dirty, ahead: Ahead | None) -> None:
    low, high = int(starts.min()), int(starts.max())
    if low == high and not classes.any() and ahead is None:
        _add(dirty, low, TableClass.ON_TIME, part.keys, part.offsets, None)
        return
    chosen = np.flatnonzero(classes <= TableClass.EXPIRED)
    if not len(chosen):
        return
    groups = starts[chosen] // part.table.window_ms * len(COUNTED) + classes[chosen]
    order = np.argsort(groups, kind="stable")
    chosen, groups = chosen[order], groups[order]
    edges = np.flatnonzero(np.diff(groups)) + 1
    for run in np.split(chosen, edges):
        start, kind = int(starts[run[0]]), TableClass(int(classes[run[0]]))
        keys = [part.keys[i] for i in run.tolist()] if kind is not TableClass.EXPIRED else []
        _add(dirty, start, kind, keys, part.offsets[run], ahead)


def _add(
    dirty: Dirty, start: int, kind: TableClass, keys: Sequence[RawKey], offsets: Int64s, ahead: Ahead | None
) -> None:
    """Count events of one window and class."""
    window = dirty.get(start)
    if window is None:
        window = dirty[start] = DirtyWindow()
    certified = offsets if ahead is None else offsets[offsets > ahead.certificates.get(start, -1)]
    if len(certified):
        certificate = window.certificate
        certificate.offset = max(certificate.offset, int(certified[-1]))
        counts = (certificate.on_time, certificate.late, certificate.expired)[kind]
        counts.add(ClassCount.of(certified))
    if kind is TableClass.EXPIRED:
        return
    places: Sequence[int] = offsets.tolist()
    if ahead is not None:
        cells = ahead.cells
        fresh = [cells.get((start, encode_key(k)), -1) < o for k, o in zip(keys, places, strict=True)]
        keys, places = list(compress(keys, fresh)), list(compress(places, fresh))
    (window.on_time if kind is TableClass.ON_TIME else window.late).update(keys)
    # Only ever raises: in one window every on-time offset precedes every late one.
    window.last.update(zip(keys, places, strict=True))


def _mark_duplicates(
    path: str, part: _Part, starts: Int64s, classes: npt.NDArray[np.int8], dirty: Dirty, known_ids: KnownIds
) -> None:
    """Mark repeats among records not expired, and note the ids seen first here."""
    column = part.columns[path]
    wanted: dict[int, list[tuple[int, bytes]]] = {}
    for place in np.flatnonzero(classes <= TableClass.LATE).tolist():
        raw = column[place]
        if isinstance(raw, str | int) and not isinstance(raw, bool):
            wanted.setdefault(int(starts[place]), []).append((place, encode_id(raw)))
    for start, found in wanted.items():
        window = dirty.get(start)
        if window is None:
            window = dirty[start] = DirtyWindow()
        ids = window.ids
        fresh = list({one for _, one in found if one not in ids})
        stored = {one: at for one, at in zip(fresh, known_ids(start, fresh), strict=True) if at is not None}
        for place, one in found:
            offset = int(part.offsets[place])
            first = ids.get(one, stored.get(one, offset))
            # Its own offset: a torn transaction stored it before progress did.
            if first < offset:
                classes[place] = TableClass.DUPLICATE
            else:
                ids[one] = offset


def read_keys(
    fields: tuple[KeyField, ...], columns: Columns, kafka_keys: Sequence[bytes | None], decoded: Decoded
) -> tuple[Sequence[Any], Mask | None]:
    """Raw keys, and where there is one (None: everywhere)."""
    parts: list[Sequence[Any]] = []
    keyed: Mask | None = None
    longest = decoded.longest
    for one in fields:
        if one.field is None:
            column: Sequence[Any] = kafka_key_texts(kafka_keys)
            # A control character takes six bytes of a JSON string.
            longest = max(longest, 6 * (max(map(len, filter(None, kafka_keys)), default=0) + 1))
        else:
            column = columns[one.field]
        wanted = PYTHON_TYPES[one.type]
        if set(map(type, column)) != {wanted}:
            good = np.fromiter(map(is_, map(type, column), repeat(wanted)), np.bool_, len(column))
            keyed = good if keyed is None else keyed & good
        parts.append(column)
    keys = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
    # A key taken from a value is no longer than it; one field may be named twice.
    if decoded.slow or longest > KEY_BYTES_MAX // (len(fields) + 1):
        usable: Sequence[bool] | repeat[bool] = repeat(True) if keyed is None else keyed.tolist()
        keyed = np.fromiter((ok and key_fits(k) for ok, k in zip(usable, keys, strict=False)), np.bool_, len(keys))
    return keys, None if keyed is None or keyed.all() else keyed


def passes(rules: tuple[WhereRule, ...], columns: Columns, count: int) -> Mask:
    """Where every rule passes; null counts as absent; 1, true and 1.0 are three values."""
    result = np.ones(count, np.bool_)
    for rule in rules:
        column = columns[rule.field]
        if rule.allowed is not None:
            result &= _is_one_of(rule.allowed, column)
        if rule.exists is not None:
            test = is_not if rule.exists else is_
            result &= np.fromiter(map(test, column, repeat(None)), np.bool_, count)
    return result


def _is_one_of(allowed: tuple[Scalar, ...], column: list[Any]) -> Mask:
    typed = {(type(value), value) for value in allowed}
    try:
        return np.fromiter(map(typed.__contains__, zip(map(type, column), column, strict=True)), np.bool_, len(column))
    except TypeError:  # lists and objects have no hash
        scalars = [value if isinstance(value, str | int | float) else None for value in column]
        return _is_one_of(allowed, scalars)
