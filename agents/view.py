"""Committed reads over the partitions owned now."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence

from agents.assignment import Assignment
from agents.partition import Partition
from agents.source import Place
from domain import rows
from domain.certificate import Certificate
from domain.progress import CountsProgress, StateProgress, decode_state
from domain.rows import Kind, Role, progress_key, table_prefix, window_prefix
from tables.view import AsOf, CellCount, PartitionStatus, WindowCount

START_BYTES = 8


class WorkerView:
    """Implements `tables.view.TableView`. Also keeps what only changes when something happens."""

    def __init__(self, assignment: Assignment, end_offset: Callable[[Place], int | None]) -> None:
        self._assignment = assignment
        self._end_offset = end_offset
        self.restoring: set[Place] = set()
        self.paused: set[Place] = set()
        self.checkpoint_at: dict[Place, float] = {}

    def partitions(self) -> list[PartitionStatus]:
        found = [self._status(place, one) for place, one in self._assignment.partitions().items()]
        found += [
            PartitionStatus(place.topic, place.partition, "restoring", 0, None, None, None, 0, None)
            for place in self.restoring
        ]
        return sorted(found, key=lambda one: (one.topic, one.partition))

    def _status(self, place: Place, partition: Partition) -> PartitionStatus:
        committed_at = self.checkpoint_at.get(place)
        times = [t.committed.stream_time for t in partition.tables if t.committed.stream_time is not None]
        return PartitionStatus(
            topic=place.topic,
            partition=place.partition,
            state="paused" if place in self.paused else "running" if partition.settled else "restoring",
            next_offset=partition.group_offset(),
            end_offset=self._end_offset(place),
            archive_next_offset=partition.committed_of(Role.ARCHIVE),
            stream_time_ms=max(times, default=None),
            checkpoints=partition.checkpoints,
            last_checkpoint_age_ms=None if committed_at is None else int((time.monotonic() - committed_at) * 1000),
            hbase_next_offset=min((one.next_offset for one in partition.counts.values()), default=None),
            events_next_offset=partition.committed_of(Role.EVENTS),
        )

    def owned(self, table: str) -> list[int]:
        topic = self._assignment.tables[table].topic
        owned = self._assignment.partitions().items()
        return sorted(place.partition for place, one in owned if place.topic == topic and one.settled)

    def as_of(self, table: str, partition: int) -> AsOf:
        owner = self._owner(table, partition)
        progress = _progress(owner, table)
        return AsOf(owner.topic.name, partition, progress.next_offset, progress.stream_time)

    def tallies(self, table: str, partition: int) -> dict[str, int]:
        return _progress(self._owner(table, partition), table).tallies

    def windows(self, table: str, partition: int, from_ms: int, to_ms: int) -> list[WindowCount]:
        owner = self._owner(table, partition)
        lost_until = _lost_until(owner, table)
        return [_window(start, one, lost_until) for start, one in _certificates(owner, table, from_ms, to_ms)]

    def top(self, table: str, partition: int, start_ms: int, count: int) -> list[CellCount]:
        owner = self._owner(table, partition)
        prefix = window_prefix(Kind.CELL, table, start_ms)
        cells = (_cell(key[len(prefix) :], value) for key, value in owner.store.scan(prefix))
        return heapq.nsmallest(count, cells, key=lambda one: (-one.on_time - one.late, one.key))

    def cells(self, table: str, partition: int, start_ms: int, keys: Sequence[bytes]) -> list[CellCount]:
        owner = self._owner(table, partition)
        prefix = window_prefix(Kind.CELL, table, start_ms)
        values = owner.store.get_many([prefix + key for key in keys])
        return [_cell(key, value) for key, value in zip(keys, values, strict=True) if value is not None]

    def series(self, table: str, partition: int, key: bytes, from_ms: int, to_ms: int) -> list[tuple[int, CellCount]]:
        owner = self._owner(table, partition)
        starts = [start for start, _ in _certificates(owner, table, from_ms, to_ms)]
        values = owner.store.get_many([window_prefix(Kind.CELL, table, start) + key for start in starts])
        return [(start, _cell(key, value)) for start, value in zip(starts, values, strict=True) if value is not None]

    def _owner(self, table: str, partition: int) -> Partition:
        """Raises KeyError when the partition isn't owned, or rows of a torn transaction are ahead of its progress."""
        owner = self._assignment.partitions().get(Place(self._assignment.tables[table].topic, partition))
        if owner is None or not owner.settled:
            raise KeyError(partition)
        return owner


def _progress(owner: Partition, table: str) -> StateProgress:
    """From the store: written in one batch with the cells, so equal before and after a read means one checkpoint."""
    value = owner.store.get(progress_key(Role.STATE, table))
    if value is None:
        raise KeyError(owner.partition)
    return decode_state(value)


def _certificates(owner: Partition, table: str, from_ms: int, to_ms: int) -> Iterator[tuple[int, Certificate]]:
    prefix = table_prefix(Kind.CERTIFICATE, table)
    for key, value in owner.store.scan(prefix, window_prefix(Kind.CERTIFICATE, table, max(from_ms, 0))):
        start = int.from_bytes(key[len(prefix) : len(prefix) + START_BYTES], "big")
        if start >= to_ms:
            return
        yield start, rows.unpack_certificate(value)


def _lost_until(owner: Partition, table: str) -> int:
    followed = owner.counts.get(table)
    return followed.durable.lost_until if followed and isinstance(followed.durable, CountsProgress) else -1


def _window(start: int, one: Certificate, lost_until: int) -> WindowCount:
    return WindowCount(
        start,
        one.on_time.count,
        one.late.count,
        one.expired.count,
        one.offset,
        one.partial,
        one.dropped,
        lost=one.dropped and start <= lost_until,
    )


def _cell(key: bytes, value: bytes) -> CellCount:
    cell = rows.unpack_cell(value)
    return CellCount(key, cell.on_time, cell.late)
