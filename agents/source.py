"""What the agents ask of the source topics. app/transport implements it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from tables.changelog import Bounds


class Place(NamedTuple):
    """One partition of a source topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class SourceRecord(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class GroupAnswer(Enum):
    """What the group answers to a heartbeat of our membership."""

    ACCEPTED = "accepted"
    REBALANCING = "rebalance in progress"
    UNKNOWN = "unknown member"
    REPLACED = "fenced instance"


class Source(Protocol):
    """Questions about source logs, and the reading position.

    Raises `SinkUnavailableError` (ask again) when Kafka doesn't answer in time.
    """

    async def prepare(self, place: Place) -> None:
        """Returns when the changelog and the finals topics have a partition for it, also if its topic has grown."""

    async def bounds(self, place: Place) -> Bounds: ...

    async def offset_at(self, place: Place, time_ms: int) -> int:
        """The first offset whose Kafka timestamp is at or after the time; the log's end if there is none."""

    async def record_at(self, place: Place, offset: int) -> SourceRecord | None:
        """The record at exactly this offset, None when the log no longer has one there."""

    async def compacts(self, topic: str) -> bool:
        """Whether records may vanish from the middle of its logs."""

    async def group_offset(self, place: Place) -> int | None:
        """What the consumer group last committed."""

    async def commit_group_offsets(self, offsets: dict[Place, int]) -> None:
        """For lag tools only: never read back but to notice lost state. Failures are ignored."""

    async def ask_group(self) -> GroupAnswer:
        """One heartbeat under our member id and generation."""

    async def seek(self, place: Place, offset: int) -> None: ...

    def reading(self, place: Place) -> int | None:
        """The position the next fetch starts at; None while there is none."""

    def pause(self, place: Place) -> None: ...

    def resume(self, place: Place) -> None: ...
