"""Every metric in one place: its name, unit, labels, and what to do when it is high."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` take values from the config or from `domain` only, so the number of series is bounded."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    when_high: str


RECORDS = Metric(
    "recount_records_total",
    Kind.COUNTER,
    "records",
    ("topic", "table", "class"),
    "Records folded, by table class; the classes of one table add up to the records read.",
    "Much `malformed` or `unkeyed`: a producer changed its events, compare with the table's `key` and `event_time`. "
    "Much `late`: raise `grace`. Much `expired`: raise `retention`, then replay the windows in question.",
)
BATCHES = Metric(
    "recount_batches_total",
    Kind.COUNTER,
    "batches",
    ("topic",),
    "Batches folded; records per batch show how well fetching is amortised.",
    "Few records per batch at a high rate: raise the consumer's minimum fetch size.",
)
STALE_BATCHES = Metric(
    "recount_stale_batches_total",
    Kind.COUNTER,
    "batches",
    ("topic",),
    "Batches below the expected position, dropped; a few after each seek or rebalance are normal.",
    "Rising without rebalances: something seeks back again and again, look at holes and restores.",
)
HOLES = Metric(
    "recount_holes_total",
    Kind.COUNTER,
    "holes",
    ("topic",),
    "Batches above the expected position, answered by a seek back.",
    "Rising: the source log lost records (retention passed us, unclean election); the worker refuses if a hole stays.",
)
CHECKPOINTS = Metric(
    "recount_checkpoints_total",
    Kind.COUNTER,
    "checkpoints",
    ("topic",),
    "Checkpoints committed.",
    "Far above one per partition and interval: the dirty set fills early, raise `state.cache_cells`.",
)
CHECKPOINT_ROWS = Metric(
    "recount_checkpoint_rows_total",
    Kind.COUNTER,
    "rows",
    ("topic",),
    "Rows written to the changelog by checkpoints: cells, certificates, finals, tombstones, progress.",
    "Near one row per record: keys hardly repeat within an interval, raise `checkpoint.interval`.",
)
CHECKPOINT_SECONDS = Metric(
    "recount_checkpoint_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("topic",),
    "From the cut of a checkpoint to its commit.",
    "Near the request timeout: the brokers are slow or `checkpoint.max_records` is too large; "
    "past it the producer is tainted and the partition restored.",
)
COMMIT_FAILURES = Metric(
    "recount_commit_failures_total",
    Kind.COUNTER,
    "commits",
    ("topic",),
    "Commits that failed or whose outcome is unknown; the partition is restored each time.",
    "Rising: look at the brokers of the changelog (min ISR, transaction coordinator).",
)
FENCED = Metric(
    "recount_fenced_total",
    Kind.COUNTER,
    "fences",
    ("topic",),
    "Partitions dropped because another owner initialised after us.",
    "Without rebalances: two workers run with one instance id, or a worker stalls beyond the session timeout.",
)
RESTORE_ROWS = Metric(
    "recount_restore_rows_total",
    Kind.COUNTER,
    "rows",
    ("topic",),
    "Changelog rows read to restore partitions.",
    "Large at every restart: the data directory doesn't survive restarts; mount it or keep the instance id.",
)
RESTORE_SECONDS = Metric(
    "recount_restore_duration_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("topic",),
    "From assignment of a partition to the first fold.",
    "Counting stands still that long: see restore rows; lower `retention`, or more partitions per topic.",
)
CELL_CHECKS = Metric(
    "recount_cell_checks_total",
    Kind.COUNTER,
    "checks",
    ("topic",),
    "Restored partitions whose stored cells were compared with their certificates, in the background.",
    "Rising without restarts: partitions are dropped and taken over again and again, look at fences and failures.",
)
CELL_MISMATCHES = Metric(
    "recount_cell_mismatches_total",
    Kind.COUNTER,
    "checks",
    ("topic",),
    "Checks that found cells which don't add up; the directory is wiped and restored from the changelog.",
    "Any: the disk of the data directory, or somebody, changed what was stored. A second one is refused.",
)
ARCHIVE_LINES = Metric(
    "recount_archive_lines_total",
    Kind.COUNTER,
    "lines",
    ("topic",),
    "Lines appended to the archive.",
    "Above the records read: ranges are archived again after restarts; harmless, seal removes repeats.",
)
ARCHIVE_BYTES = Metric(
    "recount_archive_bytes_total",
    Kind.COUNTER,
    "bytes",
    ("topic",),
    "Bytes of records appended to the archive, as fetched.",
    "Plan the space of the archive; old windows become smaller when sealed.",
)
ARCHIVE_SYNCS = Metric(
    "recount_archive_syncs_total",
    Kind.COUNTER,
    "syncs",
    ("topic",),
    "Durable points of the archive: all files hsynced and the ledger line written.",
    "Far above one per partition and `sinks.archive.sync_interval`: the backlog forces early syncs.",
)
ARCHIVE_BACKLOG_BYTES = Metric(
    "recount_archive_backlog_bytes",
    Kind.GAUGE,
    "bytes",
    ("topic", "partition"),
    "Records read but not durable in the archive.",
    "Near `sinks.archive.backlog_bytes` intake pauses: the archive is down or too slow, look at its errors.",
)
ARCHIVE_ERRORS = Metric(
    "recount_archive_errors_total",
    Kind.COUNTER,
    "errors",
    ("topic",),
    "Archive writes that failed and are tried again; nothing is lost.",
    "Rising: look at the NameNode, DataNodes, permissions and free space.",
)
HBASE_CELLS = Metric(
    "recount_hbase_cells_total",
    Kind.COUNTER,
    "cells",
    ("table",),
    "Counts put into HBase, each the newest of a cell since it was last put.",
    "Near the rate of records: keys hardly repeat within `sinks.hbase.interval`, a longer one may save puts.",
)
HBASE_BACKLOG_CELLS = Metric(
    "recount_hbase_backlog_cells",
    Kind.GAUGE,
    "cells",
    ("table", "partition"),
    "Committed counts not in HBase yet.",
    "Near `sinks.hbase.backlog_cells` in sum: HBase is down or too slow; past it they are read from the state again.",
)
HBASE_LAG = Metric(
    "recount_hbase_lag_offsets",
    Kind.GAUGE,
    "offsets",
    ("topic", "partition"),
    "Source positions that are counted and committed, but not in HBase yet.",
    "Growing: HBase doesn't take counts, look at its errors. Counting goes on, and HBase catches up by itself.",
)
HBASE_RESCANS = Metric(
    "recount_hbase_rescans_total",
    Kind.COUNTER,
    "rescans",
    ("table",),
    "Times counts were read from the state for HBase: at starts, after outages, for new or emptied tables,"
    " when `recount rescan` asks.",
    "Rising without restarts: the backlog overflows, HBase is too slow or `sinks.hbase.backlog_cells` too small.",
)
HBASE_ERRORS = Metric(
    "recount_hbase_errors_total",
    Kind.COUNTER,
    "errors",
    ("topic",),
    "Calls to HBase that failed and are tried again; nothing is lost.",
    "Rising: look at the Thrift server, the region servers and the log's reasons.",
)
HBASE_EVENTS = Metric(
    "recount_hbase_events_total",
    Kind.COUNTER,
    "records",
    ("topic",),
    "Records put into HBase, one row each.",
    "Above the records read: ranges are put again after restarts, onto the same rows.",
)
HBASE_EVENTS_BACKLOG_BYTES = Metric(
    "recount_hbase_events_backlog_bytes",
    Kind.GAUGE,
    "bytes",
    ("topic", "partition"),
    "Records read but not in HBase yet.",
    "When it is full intake pauses: HBase is down or too slow for every record, look at its errors.",
)
LAG = Metric(
    "recount_lag_records",
    Kind.GAUGE,
    "records",
    ("topic", "partition"),
    "End of the source log minus the committed next offset.",
    "Rising on all partitions: add workers. On one: a hot key or a paused partition. Past the retention it is a gap.",
)
STREAM_TIME = Metric(
    "recount_stream_time_seconds",
    Kind.GAUGE,
    "seconds",
    ("topic", "partition"),
    "Stream time: the largest event time counted, as seconds since 1970.",
    "Ahead of the clock: a producer's clock is fast, its windows close early for all; lower `max_future`.",
)
DIRTY_CELLS = Metric(
    "recount_dirty_cells",
    Kind.GAUGE,
    "cells",
    ("table", "partition"),
    "Cells changed since the last checkpoint was cut.",
    "Large: memory grows and checkpoints are slow; lower `checkpoint.interval`.",
)
PAUSED = Metric(
    "recount_paused",
    Kind.GAUGE,
    "0 or 1",
    ("topic", "partition"),
    "1 while intake is paused because a follower's backlog, or what waits for commits, is full.",
    "Staying 1: the archive, the events sink or the changelog (`commits lag` in the log) doesn't keep up; counting"
    " stands still until it does.",
)
RESTORING = Metric(
    "recount_restoring",
    Kind.GAUGE,
    "0 or 1",
    ("topic", "partition"),
    "1 while the partition is owned but not yet ready to answer.",
    "Staying 1: see the restore metrics and the worker's log.",
)

ALL: tuple[Metric, ...] = (
    RECORDS,
    BATCHES,
    STALE_BATCHES,
    HOLES,
    CHECKPOINTS,
    CHECKPOINT_ROWS,
    CHECKPOINT_SECONDS,
    COMMIT_FAILURES,
    FENCED,
    RESTORE_ROWS,
    RESTORE_SECONDS,
    CELL_CHECKS,
    CELL_MISMATCHES,
    ARCHIVE_LINES,
    ARCHIVE_BYTES,
    ARCHIVE_SYNCS,
    ARCHIVE_BACKLOG_BYTES,
    ARCHIVE_ERRORS,
    HBASE_CELLS,
    HBASE_BACKLOG_CELLS,
    HBASE_LAG,
    HBASE_RESCANS,
    HBASE_ERRORS,
    HBASE_EVENTS,
    HBASE_EVENTS_BACKLOG_BYTES,
    LAG,
    STREAM_TIME,
    DIRTY_CELLS,
    PAUSED,
    RESTORING,
)
