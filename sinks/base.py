"""What a follower needs of a sink. Writing the same batch again changes nothing.

Sinks are blocking: their follower calls them through one thread hop, one call at a time.
They report durable positions; agents own progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.record import TimedBatch
from domain.rows import Row


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


class CellSink(Protocol):
    """Takes one table's counts of one partition: state rows, whose values are true at offset `next_offset - 1`.

    What is true at a higher offset wins, in whatever order and by whomever it is put: a put is safe to repeat, and one
    that comes late changes nothing. Durable when a method returns. After `SinkUnavailableError` any part may be put.
    """

    def claim(self) -> str:
        """See that the sink is there and ours; the id of its present filling, another one if it was emptied.

        Raises `RefusedError` when it holds something else's counts.
        """

    def next_offset(self) -> int | None:
        """Of the frontier; None: nothing was ever put."""

    def put_cells(self, rows: Sequence[Row], next_offset: int) -> None: ...

    def put_certificates(self, rows: Sequence[Row], next_offset: int) -> None: ...

    def put_frontier(self, next_offset: int, stream_time: int | None, archive_next_offset: int | None) -> None:
        """Say that everything up to here was put: after it was. `archive_next_offset` None: there is no archive."""
