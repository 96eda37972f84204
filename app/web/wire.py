"""What workers ask each other: one question about one table, answered partition by partition."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tables.view import CellCount, PartitionStatus, WindowCount

Ms = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class PositionsAsk(msgspec.Struct, frozen=True, tag="positions"):
    """Only up to where each partition is counted."""

    table: str


class TalliesAsk(msgspec.Struct, frozen=True, tag="tallies"):
    table: str


class WindowsAsk(msgspec.Struct, frozen=True, tag="windows"):
    """Windows with start in [from_ms, to_ms)."""

    table: str
    from_ms: Ms
    to_ms: Ms


class TopAsk(msgspec.Struct, frozen=True, tag="top"):
    """One window: its counts, its `count` largest cells, and the cells of `keys`."""

    table: str
    start_ms: Ms
    count: Count
    keys: list[bytes] = []


class SeriesAsk(msgspec.Struct, frozen=True, tag="series"):
    """One key's cells in windows with start in [from_ms, to_ms), and those windows' counts."""

    table: str
    key: bytes
    from_ms: Ms
    to_ms: Ms


class StatusAsk(msgspec.Struct, frozen=True, tag="status"):
    """Every partition the worker owns, ready or not."""


TableAsk = PositionsAsk | TalliesAsk | WindowsAsk | TopAsk | SeriesAsk
Ask = TableAsk | StatusAsk


class Answer(msgspec.Struct, omit_defaults=True):
    """One partition's answer, true at `next_offset`; at or after it where a checkpoint landed in every try."""

    partition: int
    next_offset: int
    stream_time_ms: int | None = None
    idle: bool = False
    tallies: dict[str, int] = {}
    windows: list[WindowCount] = []
    top: list[CellCount] = []
    cells: list[CellCount] = []
    series: list[tuple[int, CellCount]] = []


class Reply(msgspec.Struct, omit_defaults=True):
    """One worker's answers. `not_ready` names partitions it owns but can't answer for, with the reason."""

    answers: list[Answer] = []
    not_ready: dict[int, str] = {}
    statuses: list[PartitionStatus] = []


ASK_DECODER = msgspec.msgpack.Decoder(Ask)
REPLY_DECODER = msgspec.msgpack.Decoder(Reply)
