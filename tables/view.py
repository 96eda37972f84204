"""Committed reads of one worker's own partitions: what readers see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AsOf:
    """Up to where one partition of a table is counted."""

    topic: str
    partition: int
    next_offset: int  # first source offset not counted yet
    stream_time_ms: int | None


@dataclass(frozen=True, slots=True)
class CellCount:
    key: bytes
    on_time: int
    late: int


@dataclass(frozen=True, slots=True)
class WindowCount:
    """One window of one partition: the certificate's counts."""

    start_ms: int
    on_time: int
    late: int
    expired: int
    offset: int  # of the last event in it
    partial: bool
    dropped: bool  # cells are gone from the state
    lost: bool = False  # and HBase was emptied since: what it has of the window may lack this partition


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    topic: str
    partition: int
    state: str  # "restoring", "running", "paused"
    next_offset: int  # committed
    end_offset: int | None  # of the source log, None while unknown
    archive_next_offset: int | None  # None: no archive configured
    stream_time_ms: int | None
    checkpoints: int
    last_checkpoint_age_ms: int | None
    hbase_next_offset: int | None = None  # counts of all tables are in HBase up to here; None: not configured
    events_next_offset: int | None = None  # records are in HBase up to here


class TableView(Protocol):
    """Committed values of the partitions this worker owns now. `table` must be a configured table.

    Reads raise `KeyError(partition)` when the partition isn't (or no longer) owned and ready.
    """

    def partitions(self) -> list[PartitionStatus]: ...

    def owned(self, table: str) -> list[int]:
        """Partitions of the table's topic that are ready to answer."""

    def as_of(self, table: str, partition: int) -> AsOf: ...

    def tallies(self, table: str, partition: int) -> dict[str, int]:
        """Records read per class; adds up to the records read since the table's start."""

    def windows(self, table: str, partition: int, from_ms: int, to_ms: int) -> list[WindowCount]:
        """Windows with start in [from_ms, to_ms), ascending."""

    def top(self, table: str, partition: int, start_ms: int, count: int) -> list[CellCount]:
        """The `count` largest cells of a window by on_time + late, ties by key, descending."""

    def cells(self, table: str, partition: int, start_ms: int, keys: Sequence[bytes]) -> list[CellCount]:
        """The cells of these keys that exist."""

    def series(self, table: str, partition: int, key: bytes, from_ms: int, to_ms: int) -> list[tuple[int, CellCount]]:
        """(window start, cell) of one key for window starts in [from_ms, to_ms), ascending."""
