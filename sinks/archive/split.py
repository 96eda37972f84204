"""A batch cut into runs of lines, one per archive window (and per day of malformed records)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from domain.record import Batch, Int64s, TimedBatch
from domain.spec import TIME_END_MS
from sinks.archive.line import format_lines
from sinks.archive.path import DAY_MS, Slot


@dataclass(frozen=True, slots=True)
class Run:
    """Lines of one slot, offsets ascending."""

    slot: Slot
    first: int
    last: int
    count: int
    data: bytes


def runs(timed: TimedBatch, window_ms: int) -> Iterator[Run]:
    """Yield each slot's lines once, in the order of slots; every record is in exactly one."""
    batch = timed.batch
    if len(batch) == 0:
        return
    slots = _slots(timed, window_ms)
    first = int(slots[0])
    if (slots == first).all():
        yield _run(first, batch, slice(None))
        return
    order = np.argsort(slots, kind="stable")  # stable: offsets stay ascending within a slot
    borders = np.flatnonzero(np.diff(slots[order])) + 1
    for rows in np.split(order, borders):
        yield _run(int(slots[rows[0]]), batch, rows)


def after(timed: TimedBatch, next_offset: int) -> TimedBatch:
    """Return the part of a batch at or above an offset."""
    batch = timed.batch
    at = int(np.searchsorted(batch.offsets, next_offset))
    rest = Batch(
        topic=batch.topic,
        partition=batch.partition,
        start=next_offset,
        end=batch.end,
        offsets=batch.offsets[at:],
        timestamps=batch.timestamps[at:],
        keys=batch.keys[at:],
        values=batch.values[at:],
        size=batch.size,
    )
    return TimedBatch(rest, timed.times[at:], timed.windowed[at:])


def _slots(timed: TimedBatch, window_ms: int) -> Int64s:
    # One number per slot: the window's start, or for a day of malformed records the complement of its start (< 0).
    windows = timed.times // window_ms * window_ms
    if timed.windowed.all():
        return windows
    days = np.clip(timed.batch.timestamps, 0, TIME_END_MS - 1) // DAY_MS * DAY_MS
    return np.where(timed.windowed, windows, ~days)


def _run(slot: int, batch: Batch, rows: slice | Int64s) -> Run:
    offsets = batch.offsets[rows].tolist()
    data = format_lines(
        batch.topic,
        batch.partition,
        offsets,
        batch.timestamps[rows].tolist(),
        _picked(batch.keys, rows),
        _picked(batch.values, rows),
    )
    where = Slot(True, ~slot) if slot < 0 else Slot(False, slot)
    return Run(where, offsets[0], offsets[-1], len(offsets), data)


def _picked(column: Sequence[bytes | None], rows: slice | Int64s) -> Sequence[bytes | None]:
    return column[rows] if isinstance(rows, slice) else [column[row] for row in rows.tolist()]
