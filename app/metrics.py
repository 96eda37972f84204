"""The worker's metrics: set per batch, checkpoint and scrape, never per event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from domain import metric_names as names
from tables.view import PartitionStatus

COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RESTORE_BUCKETS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


class Metrics:
    """All series of one worker, in a registry of its own. Cheap, and safe to call from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._records = self._counter(names.RECORDS)
        self._batches = self._counter(names.BATCHES)
        self._stale_batches = self._counter(names.STALE_BATCHES)
        self._holes = self._counter(names.HOLES)
        self._checkpoints = self._counter(names.CHECKPOINTS)
        self._checkpoint_rows = self._counter(names.CHECKPOINT_ROWS)
        self._checkpoint_s = self._histogram(names.CHECKPOINT_SECONDS, COMMIT_BUCKETS_S)
        self._commit_failures = self._counter(names.COMMIT_FAILURES)
        self._fenced = self._counter(names.FENCED)
        self._restore_rows = self._counter(names.RESTORE_ROWS)
        self._restore_s = self._histogram(names.RESTORE_SECONDS, RESTORE_BUCKETS_S)
        self._cell_checks = self._counter(names.CELL_CHECKS)
        self._cell_mismatches = self._counter(names.CELL_MISMATCHES)
        self._archive_lines = self._counter(names.ARCHIVE_LINES)
        self._archive_bytes = self._counter(names.ARCHIVE_BYTES)
        self._archive_syncs = self._counter(names.ARCHIVE_SYNCS)
        self._archive_backlog = self._gauge(names.ARCHIVE_BACKLOG_BYTES)
        self._archive_errors = self._counter(names.ARCHIVE_ERRORS)
        self._hbase_cells = self._counter(names.HBASE_CELLS)
        self._hbase_backlog = self._gauge(names.HBASE_BACKLOG_CELLS)
        self._hbase_lag = self._gauge(names.HBASE_LAG)
        self._hbase_rescans = self._counter(names.HBASE_RESCANS)
        self._hbase_errors = self._counter(names.HBASE_ERRORS)
        self._hbase_events = self._counter(names.HBASE_EVENTS)
        self._hbase_events_backlog = self._gauge(names.HBASE_EVENTS_BACKLOG_BYTES)
        self._lag = self._gauge(names.LAG)
        self._stream_time = self._gauge(names.STREAM_TIME)
        self._dirty_cells = self._gauge(names.DIRTY_CELLS)
        self._paused = self._gauge(names.PAUSED)
        self._restoring = self._gauge(names.RESTORING)

    def batch_folded(self, topic: str) -> None:
        self._batches.labels(topic).inc()

    def records_folded(self, topic: str, table: str, by_class: Mapping[str, int]) -> None:
        """Count the records of one batch by table class."""
        for name, records in by_class.items():
            self._records.labels(topic, table, name).inc(records)

    def stale_batch_dropped(self, topic: str) -> None:
        self._stale_batches.labels(topic).inc()

    def hole_found(self, topic: str) -> None:
        self._holes.labels(topic).inc()

    def checkpoint_committed(self, topic: str, *, rows: int, duration_s: float) -> None:
        self._checkpoints.labels(topic).inc()
        self._checkpoint_rows.labels(topic).inc(rows)
        self._checkpoint_s.labels(topic).observe(duration_s)

    def commit_failed(self, topic: str) -> None:
        self._commit_failures.labels(topic).inc()

    def partition_fenced(self, topic: str) -> None:
        self._fenced.labels(topic).inc()

    def partition_restored(self, topic: str, *, rows: int, duration_s: float) -> None:
        self._restore_rows.labels(topic).inc(rows)
        self._restore_s.labels(topic).observe(duration_s)

    def cells_checked(self, topic: str, *, mismatch: bool) -> None:
        self._cell_checks.labels(topic).inc()
        self._cell_mismatches.labels(topic).inc(mismatch)

    def archive_appended(self, topic: str, *, lines: int, size_bytes: int) -> None:
        self._archive_lines.labels(topic).inc(lines)
        self._archive_bytes.labels(topic).inc(size_bytes)

    def archive_synced(self, topic: str) -> None:
        self._archive_syncs.labels(topic).inc()

    def archive_failed(self, topic: str) -> None:
        self._archive_errors.labels(topic).inc()

    def archive_backlog(self, topic: str, partition: int, size_bytes: int) -> None:
        self._archive_backlog.labels(topic, str(partition)).set(size_bytes)

    def hbase_put(self, table: str, cells: int) -> None:
        self._hbase_cells.labels(table).inc(cells)

    def hbase_backlog(self, table: str, partition: int, cells: int) -> None:
        self._hbase_backlog.labels(table, str(partition)).set(cells)

    def hbase_rescan(self, table: str) -> None:
        self._hbase_rescans.labels(table).inc()

    def hbase_failed(self, topic: str) -> None:
        self._hbase_errors.labels(topic).inc()

    def hbase_events_put(self, topic: str, records: int) -> None:
        self._hbase_events.labels(topic).inc(records)

    def hbase_events_backlog(self, topic: str, partition: int, size_bytes: int) -> None:
        self._hbase_events_backlog.labels(topic, str(partition)).set(size_bytes)

    def dirty_cells(self, table: str, partition: int, cells: int) -> None:
        self._dirty_cells.labels(table, str(partition)).set(cells)

    def forget(self, topic: str, tables: Iterable[str], partition: int) -> None:
        """Drop the gauges of a partition this worker no longer owns."""
        self._archive_backlog.remove(topic, str(partition))
        self._hbase_events_backlog.remove(topic, str(partition))
        for table in tables:
            self._dirty_cells.remove(table, str(partition))
            self._hbase_backlog.remove(table, str(partition))

    def partitions(self, statuses: Iterable[PartitionStatus]) -> None:
        """Lags, stream time, paused and restoring of exactly these partitions; called at each scrape."""
        for gauge in (self._lag, self._hbase_lag, self._stream_time, self._paused, self._restoring):
            gauge.clear()
        for status in statuses:
            at = (status.topic, str(status.partition))
            if status.end_offset is not None:
                self._lag.labels(*at).set(max(0, status.end_offset - status.next_offset))
            if status.hbase_next_offset is not None:
                self._hbase_lag.labels(*at).set(max(0, status.next_offset - status.hbase_next_offset))
            if status.stream_time_ms is not None:
                self._stream_time.labels(*at).set(status.stream_time_ms / 1000)
            self._paused.labels(*at).set(status.state == "paused")
            self._restoring.labels(*at).set(status.state == "restoring")

    def expose(self) -> bytes:
        """All series in the Prometheus text format."""
        return generate_latest(self.registry)

    def _counter(self, metric: names.Metric) -> Counter:
        return Counter(metric.name, metric.meaning, metric.labels, registry=self.registry)

    def _gauge(self, metric: names.Metric) -> Gauge:
        return Gauge(metric.name, metric.meaning, metric.labels, registry=self.registry)

    def _histogram(self, metric: names.Metric, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(metric.name, metric.meaning, metric.labels, registry=self.registry, buckets=buckets)
