"""What a follower needs of a sink. Writing the same batch again changes nothing.

Sinks are blocking: their follower calls them through one thread hop, one call at a time.
They report durable positions; agents own progress.
"""

from __future__ import annotations

from typing import Protocol

from domain.record import TimedBatch


class LogSink(Protocol):
    """Takes every record of one partition as read, in order.

    Every method raises `SinkUnavailableError` (call again later, nothing was lost) or `FencedError`.
    """

    def write(self, batch: TimedBatch) -> None:
        """Take a batch. Durable only after a later `sync`. `batch.batch.start` continues the last batch's end."""

    def sync(self, close_before_ms: int | None) -> int:
        """Make everything written durable; returns the next offset not covered.

        Windows that end at or before `close_before_ms` (event time) get no more on-time records:
        what is open for them may be finished.
        """

    def close(self) -> int:
        """Sync and release what is held; returns the durable next offset. The sink takes nothing after it."""

    def abort(self) -> None:
        """Let go at once without making anything durable. Nothing durable is deleted."""
