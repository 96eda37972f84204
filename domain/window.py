"""Windows in time: which are closed, which expired, which a cut can touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

from domain.progress import Cut
from domain.spec import TableSpec, TopicSpec


def closed_until(table: TableSpec, stream_time: int) -> int:
    """Windows that start here or before are closed: their on-time counts are final."""
    return stream_time - table.grace_ms - table.window_ms


def expired_until(table: TableSpec, stream_time: int) -> int:
    """Windows that start here or before take in nothing more: their cells may be dropped."""
    return stream_time - table.retention_ms - table.window_ms


@dataclass(frozen=True, slots=True)
class Cuts:
    """Ranges of offsets a table never saw, and the windows their records may have belonged to.

    Kafka timestamps are taken as rising. A cut touches nothing yet while the first record after it isn't known.
    """

    topic: TopicSpec
    window_ms: int
    cuts: Sequence[Cut] = ()

    def touch(self, start_ms: int) -> bool:
        """Whether a window is partial."""
        return any(low < start_ms <= high for low, high in map(self._reach, self.cuts))

    def reach(self) -> tuple[int, int]:
        """Window starts above the first and up to the second are those that may be touched."""
        reaches = [self._reach(one) for one in self.cuts]
        return min((low for low, _ in reaches), default=0), max((high for _, high in reaches), default=-1)

    def _reach(self, cut: Cut) -> tuple[int, int]:
        if cut.after_ms is None:
            return 0, -1
        low = -1 if cut.before_ms is None else cut.before_ms - self.topic.max_past_ms - self.window_ms
        return low, cut.after_ms + self.topic.max_future_ms


def known_after(cuts: Sequence[Cut], offset: int, timestamp_ms: int) -> list[Cut]:
    """Cuts as they are known once a record was read: the first one after a cut bounds what it hid."""
    return [
        structs.replace(one, after_ms=timestamp_ms) if one.after_ms is None and one.next <= offset else one
        for one in cuts
    ]
