"""Records of one partition fetch, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one partition at source positions [start, end), in order.

    `end` is the position after the last one and counts control records and holes; columns have equal
    lengths and may be empty (a range of control records moves the position too).
    """

    topic: str
    partition: int
    start: int
    end: int
    offsets: Int64s
    timestamps: Int64s  # Kafka timestamps, ms
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    size: int = 0  # bytes of keys and values, for backlogs

    def __len__(self) -> int:
        return len(self.values)


def record_id(topic: str, partition: int, offset: int) -> str:
    return f"{topic}-{partition}-{offset}"


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """A batch with what the archive needs to know of each record."""

    batch: Batch
    times: Int64s  # event times, ms; meaningless where not windowed
    windowed: npt.NDArray[np.bool_]  # False: malformed
