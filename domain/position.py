"""The position chain: which batches continue the one before."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    FOLD = "fold"  # continues exactly where the last one ended
    STALE = "stale"  # read before a seek: drop
    HOLE = "hole"  # something is missing before it: seek back


def step(start: int, next_offset: int) -> Step:
    """What to do with a batch of source positions [start, …) when `next_offset` is expected.

    A batch that starts lower is dropped whole even if it reaches further: its records come again.
    """
    if start == next_offset:
        return Step.FOLD
    return Step.STALE if start < next_offset else Step.HOLE
