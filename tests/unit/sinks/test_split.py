"""A batch is cut by archive window; every record is in exactly one run."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domain.record import Batch, TimedBatch
from sinks.archive.line import parse_line
from sinks.archive.path import DAY_MS, Slot
from sinks.archive.split import after, runs

WINDOW_MS = 300_000
records = st.lists(st.tuples(st.booleans(), st.integers(0, 10 * WINDOW_MS), st.integers(-5, 3 * DAY_MS)), max_size=40)


def timed(rows: list[tuple[bool, int, int]], start: int = 100) -> TimedBatch:
    count = len(rows)
    offsets = np.arange(start, start + 2 * count, 2, dtype=np.int64)
    return TimedBatch(
        Batch(
            topic="t",
            partition=1,
            start=start,
            end=start + 2 * count,
            offsets=offsets,
            timestamps=np.array([row[2] for row in rows], dtype=np.int64),
            keys=[None] * count,
            values=[b"%d" % offset for offset in offsets],
        ),
        np.array([row[1] for row in rows], dtype=np.int64),
        np.array([row[0] for row in rows], dtype=np.bool_),
    )


@given(records)
def test_every_record_is_in_the_run_of_its_slot_in_order(rows: list[tuple[bool, int, int]]) -> None:
    found = list(runs(timed(rows), WINDOW_MS))
    expected: dict[Slot, list[int]] = {}
    for n, (windowed, time, timestamp) in enumerate(rows):
        slot = (
            Slot(False, time // WINDOW_MS * WINDOW_MS) if windowed else Slot(True, max(timestamp, 0) // DAY_MS * DAY_MS)
        )
        expected.setdefault(slot, []).append(100 + 2 * n)
    assert len(found) == len(expected)
    for run in found:
        lines = [parse_line(line) for line in run.data.split(b"\n")[:-1]]
        assert [line.offset for line in lines] == expected[run.slot]
        assert all(line.value == b"%d" % line.offset for line in lines)
        assert (run.first, run.last, run.count) == (lines[0].offset, lines[-1].offset, len(lines))


def test_records_below_an_offset_are_cut_off() -> None:
    rest = after(timed([(True, 0, 0)] * 5), 103)
    assert rest.batch.offsets.tolist() == [104, 106, 108]
    assert (rest.batch.start, rest.batch.end, len(rest.times), len(rest.windowed)) == (103, 110, 3, 3)
    assert list(rest.batch.values) == [b"104", b"106", b"108"]
