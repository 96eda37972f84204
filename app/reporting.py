"""What the agents report, into metrics, view and log."""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

from agents.follower import Synced
from agents.partition import Partition
from agents.source import Place
from agents.view import WorkerView
from app.metrics import Metrics
from domain.errors import FencedError, RecountError
from domain.rows import Role
from domain.spec import TableSpec

log = structlog.get_logger(__name__)

CROWD_EVERY_S = 60.0


class Reporting:
    """`agents.events.Listener`."""

    def __init__(self, metrics: Metrics, tables: Iterable[TableSpec], idle_timeout_s: float) -> None:
        self._metrics = metrics
        self._tables = tuple(tables)
        self._idle_timeout_s = idle_timeout_s
        self._records_at: dict[Place, float] = {}
        self._view: WorkerView | None = None
        self._full: dict[Place, set[Role]] = {}
        self._crowd_told: dict[Place, float] = {}
        self._tallied: dict[tuple[Place, str], dict[str, int]] = {}

    def show_in(self, view: WorkerView) -> None:
        self._view = view

    def idle(self, topic: str, partition: int) -> bool:
        """Whether nothing came for a while: a label for windows, nothing depends on it."""
        at = self._records_at.get(Place(topic, partition))
        return at is not None and time.monotonic() - at > self._idle_timeout_s

    def restoring(self, place: Place) -> None:
        self._shown.restoring.add(place)

    def restored(self, place: Place, rows: int, seconds: float, *, cold: bool) -> None:
        self._metrics.partition_restored(place.topic, rows=rows, duration_s=seconds)
        log.info("restored", partition=str(place), rows=rows, seconds=round(seconds, 2), cold=cold)

    def owned(self, place: Place) -> None:
        self._shown.restoring.discard(place)
        self._records_at[place] = time.monotonic()
        log.info("counting", partition=str(place))

    def dropped(self, place: Place) -> None:
        view = self._shown
        view.restoring.discard(place)
        view.paused.discard(place)
        self._full.pop(place, None)
        view.checkpoint_at.pop(place, None)
        self._records_at.pop(place, None)
        names = [table.name for table in self._tables if table.topic == place.topic]
        self._metrics.forget(place.topic, names, place.partition)
        for key in [key for key in self._tallied if key[0] == place]:
            del self._tallied[key]

    def stale(self, place: Place) -> None:
        self._metrics.stale_batch_dropped(place.topic)

    def hole(self, place: Place) -> None:
        self._metrics.hole_found(place.topic)

    def folded(self, place: Place, partition: Partition, records: int) -> None:
        for table in partition.tables:  # of a new owner: what was counted before it
            self._tallied.setdefault((place, table.spec.name), table.committed.tallies)
        if records:
            self._records_at[place] = time.monotonic()
        self._metrics.batch_folded(place.topic)

    def committed(self, place: Place, partition: Partition, rows: int, seconds: float) -> None:
        self._metrics.checkpoint_committed(place.topic, rows=rows, duration_s=seconds)
        self._shown.checkpoint_at[place] = time.monotonic()
        for table in partition.tables:
            now = table.committed.tallies
            before = self._tallied.get((place, table.spec.name), now)
            grown = {name: count - before.get(name, 0) for name, count in now.items()}
            self._metrics.records_folded(place.topic, table.spec.name, grown)
            self._tallied[place, table.spec.name] = now
            self._metrics.dirty_cells(table.spec.name, place.partition, sum(len(w.last) for w in table.dirty.values()))

    def commit_failed(self, place: Place, error: RecountError) -> None:
        if isinstance(error, FencedError):
            self._metrics.partition_fenced(place.topic)
        else:
            self._metrics.commit_failed(place.topic)

    def cells_checked(self, place: Place, *, mismatch: bool) -> None:
        self._metrics.cells_checked(place.topic, mismatch=mismatch)

    def synced(self, place: Place, role: Role, done: Synced) -> None:
        if role is Role.ARCHIVE:
            self._metrics.archive_synced(place.topic)
            self._metrics.archive_appended(place.topic, lines=done.lines, size_bytes=done.size)
        else:
            self._metrics.hbase_events_put(place.topic, done.lines)
        self.waits(place, role, done.backlog)

    def backlog(self, place: Place, role: Role, size: int, *, full: bool) -> None:
        self.waits(place, role, size)
        intake = self._intake(place, role, full=full)
        log.warning(
            "backlog full" if full else "backlog has room",
            sink=role.value,
            partition=str(place),
            bytes=size,
            intake=intake,
        )

    def crowded(self, place: Place, cells: int, *, full: bool) -> None:
        self._intake(place, Role.STATE, full=full)
        # While many keys are caught up with, it happens every second.
        if full and time.monotonic() - self._crowd_told.get(place, -CROWD_EVERY_S) >= CROWD_EVERY_S:
            self._crowd_told[place] = time.monotonic()
            log.warning("commits lag", partition=str(place), cells=cells, intake="paused")

    def _intake(self, place: Place, role: Role, *, full: bool) -> str:
        """Note who holds it up, or no longer does; returns how it stands."""
        full_ones = self._full.setdefault(place, set())
        (full_ones.add if full else full_ones.discard)(role)
        paused = self._shown.paused
        (paused.add if full_ones else paused.discard)(place)
        return "paused" if full_ones else "resumed"

    def waits(self, place: Place, role: Role, size: int) -> None:
        if role is Role.ARCHIVE:
            self._metrics.archive_backlog(place.topic, place.partition, size)
        else:
            self._metrics.hbase_events_backlog(place.topic, place.partition, size)

    def counts_put(self, place: Place, table: str, cells: int) -> None:
        del place
        self._metrics.hbase_put(table, cells)

    def counts_backlog(self, place: Place, table: str, cells: int) -> None:
        self._metrics.hbase_backlog(table, place.partition, cells)

    def rescan(self, place: Place, table: str, since: int) -> None:
        self._metrics.hbase_rescan(table)
        log.info("rescan: counts go to HBase from the state", partition=str(place), table=table, since=since)

    def sink_failed(self, place: Place, role: Role, error: RecountError) -> None:
        del error
        if role is Role.ARCHIVE:
            self._metrics.archive_failed(place.topic)
        else:
            self._metrics.hbase_failed(place.topic)

    @property
    def _shown(self) -> WorkerView:
        assert self._view is not None, "show_in first"
        return self._view
