"""The public shapes: what each route answers. The OpenAPI document is generated from these."""

from __future__ import annotations

from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType


class WindowState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"  # closed as far as the answers go, but a partition is missing


class Source(StrEnum):
    """Where counts were read."""

    STATE = "state"
    HBASE = "hbase"


class AsOf(Struct):
    """Up to where one partition is counted; `next_offset` is the first source offset not counted yet."""

    partition: int
    next_offset: int
    stream_time_ms: int | None
    idle: bool


class HBaseAsOf(Struct):
    """Up to where one partition's counts are wholly in HBase; what is read there is at least that new."""

    partition: int
    next_offset: int
    stream_time_ms: int | None


class Coverage(Struct, kw_only=True):
    """Which partitions an answer covers. `complete: false` means the sums lack the `missing` partitions.

    `missing_why` may also name `topic`, whose partition count is unknown, and `hbase`, which lacks counts.
    """

    complete: bool
    missing: list[int]
    missing_why: dict[str, str]
    as_of: list[AsOf]


class KeyPart(Struct):
    """One part of a table's key; `field` is null for the Kafka key."""

    field: str | None
    type: str


class Table(Struct):
    """A configured table. `start_ms` is null for the log's earliest record."""

    name: str
    topic: str
    key: list[KeyPart]
    window_ms: int
    grace_ms: int
    retention_ms: int
    start_ms: int | None
    dedup: str | None
    finals_topic: str | None
    partitions: int | None


class Tables(Struct):
    tables: list[Table]


class TableDetail(Coverage, kw_only=True):
    """A table with its tallies over all partitions; `records` is their sum."""

    table: Table
    stream_time_ms: int | None
    records: int
    tallies: dict[str, int]


class Window(Struct, kw_only=True):
    """`count` = on_time + late. `dropped`: a partition no longer holds the keys of this window."""

    start: str
    start_ms: int
    end_ms: int
    state: WindowState
    count: int
    on_time: int
    late: int
    expired: int
    partial: bool
    dropped: bool


class Windows(Coverage, kw_only=True):
    """Windows with events whose start lies in [from_ms, to_ms), ascending."""

    table: str
    source: Source
    from_ms: int
    to_ms: int
    windows: list[Window]


class KeyCount(Struct, kw_only=True):
    """A key is text in `key`; where it isn't UTF-8 it stands in `key_base64` instead.

    From HBase also the `expired` events that a replay has counted; then `count` = on_time + late + expired.
    """

    key: str | UnsetType = UNSET
    key_base64: str | UnsetType = UNSET
    count: int
    on_time: int
    late: int
    expired: int | UnsetType = UNSET


class WindowDetail(Coverage, kw_only=True):
    """A window with its largest keys by `count`; among keys tied with the last one, any may be listed.

    `top_exact: false`: a key that isn't listed may have up to `top_unseen_max`; listed counts are exact.
    `source` is that of the keys: HBase once they are gone from the state, as of `hbase_as_of`.
    """

    table: str
    source: Source
    hbase_as_of: list[HBaseAsOf] | UnsetType = UNSET
    window: Window
    top: list[KeyCount]
    top_exact: bool
    top_unseen_max: int


class KeyWindow(Struct, kw_only=True):
    """One key in one window; `count` and `expired` are as in `KeyCount`."""

    source: Source
    start: str
    start_ms: int
    end_ms: int
    state: WindowState
    count: int
    on_time: int
    late: int
    expired: int | UnsetType = UNSET
    partial: bool


class KeySeries(Coverage, kw_only=True):
    """One key over time: windows where it was counted.

    Windows gone from the state are answered by HBase, as of `hbase_as_of`; `dropped` names those that aren't.
    """

    table: str
    hbase_as_of: list[HBaseAsOf] | UnsetType = UNSET
    key: str | UnsetType = UNSET
    key_base64: str | UnsetType = UNSET
    from_ms: int
    to_ms: int
    windows: list[KeyWindow]
    dropped: list[int]


class PartitionTallies(Struct):
    partition: int
    records: int
    tallies: dict[str, int]


class TableTallies(Coverage, kw_only=True):
    """Records read per class; the classes add up to `records`."""

    table: str
    records: int
    tallies: dict[str, int]
    partitions: list[PartitionTallies]


class Tallies(Struct):
    complete: bool
    tables: list[TableTallies]


class Partition(Struct, kw_only=True):
    """One source partition and the worker that owns it; `lag` is null while the log's end is unknown.

    What isn't configured is null: `hbase_next_offset` is up to where the counts of all tables are in HBase,
    `hbase_lag` the offsets committed beyond it, `events_next_offset` up to where the records are there.
    """

    topic: str
    partition: int
    worker: str
    state: str
    next_offset: int
    end_offset: int | None
    lag: int | None
    archive_next_offset: int | None
    hbase_next_offset: int | None
    hbase_lag: int | None
    events_next_offset: int | None
    stream_time_ms: int | None
    checkpoints: int
    last_checkpoint_age_ms: int | None


class Partitions(Struct):
    """`missing` and `missing_why` name partitions as topic-partition."""

    complete: bool
    missing: list[str]
    missing_why: dict[str, str]
    partitions: list[Partition]


class Problem(Struct):
    what: str
    why: str
    fix: str


class ErrorBody(Struct):
    error: Problem


class Status(Struct):
    status: str
    reason: str | UnsetType = UNSET
