"""Taking one partition over: fence, open, restore, check against the source, commit what is new."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from agents.counted_log import check_counted
from agents.events import Listener
from agents.partition import Followed, Partition, TableFold, first_progress, gap
from agents.source import Place, Source
from domain.errors import RefusedError, RetriableError, SinkUnavailableError
from domain.probe import Point, Probe, no_probe
from domain.progress import (
    CountsProgress,
    Cut,
    FollowerProgress,
    StateProgress,
    decode_counts,
    decode_follower,
    decode_state,
)
from domain.rows import Role, progress_key
from domain.spec import TableSpec, TopicSpec, fingerprint
from sinks.base import CellSink, LogSink
from tables.changelog import Bounds, ChangelogReader, ChangelogSettings, ChangelogWriter
from tables.restore import Restored, restore
from tables.rocksdb import Position, RocksSettings, RocksStore

log = structlog.get_logger(__name__)

TELL_ROWS = 500_000
ASKING_THREADS = 4
ASK_S = 5.0
Result = TypeVar("Result")


class Archives(Protocol):
    """The process's archive: one sink per partition and assignment."""

    def open(self, topic: TopicSpec, partition: int, start: int) -> LogSink:
        """The sink of one assignment, from its progress on. No I/O."""

    def recover(self, topic: str, partition: int) -> bool:
        """Finish files of dead owners, never our own; False: some still wait, ask again. Blocking, idempotent."""


class HBase(Protocol):
    """The process's HBase. Making a sink does no I/O."""

    def counts(self, table: str, partition: int) -> CellSink: ...

    def events(self, topic: str, partition: int, start: int) -> LogSink | None:
        """None: this topic's records don't go there."""

    def takes_events(self, topic: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Sinks:
    """The sinks that are configured."""

    archives: Archives | None = None
    hbase: HBase | None = None


class UntoldError(RetriableError):
    """Whether state is new or lost can't be told while HBase is away."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"it has no state yet, and HBase can't be asked if it had any: {cause}")


class OpeningSettings(Protocol):
    @property
    def app(self) -> str: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def changelog(self) -> ChangelogSettings: ...
    @property
    def rocks(self) -> RocksSettings: ...
    @property
    def accept_gaps(self) -> Mapping[Place, tuple[int, int]]: ...


@dataclass(slots=True)
class Opened:
    """A partition taken over: fenced, restored, nothing running yet."""

    partition: Partition
    writer: ChangelogWriter
    store: RocksStore
    logs: Mapping[Role, LogSink]
    counts: Mapping[str, CellSink]

    async def close(self) -> None:
        await _close(self.writer, self.store)


class Opening:
    """Opens partitions. Cancelled or failed half-way, it leaves nothing held."""

    def __init__(
        self,
        topics: Mapping[str, TopicSpec],
        tables: Mapping[str, TableSpec],
        source: Source,
        sinks: Sinks,
        settings: OpeningSettings,
        listener: Listener,
        probe: Probe = no_probe,
    ) -> None:
        self._topics = topics
        self._tables = tables
        self._source = source
        self._sinks = sinks
        self._settings = settings
        self._listener = listener
        self._probe = probe
        # Not the loop's own threads: HBase may hang, and checkpoints need those.
        self._asking = ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="asking-hbase")

    async def open(self, place: Place) -> Opened:
        """Raises `RefusedError` when going on would count wrongly, `RetriableError` when asking again may help."""
        settings = self._settings
        writer = ChangelogWriter(settings.changelog, settings.app, place.topic, place.partition, self._probe)
        store: RocksStore | None = None
        try:
            await self._source.prepare(place)
            self._probe(Point.PARTITION_ASSIGNED)
            # 1. Fence before reading: from here on the changelog's end can't move under us.
            await writer.fence()
            self._probe(Point.WRITER_FENCED)
            path = settings.data_dir / str(place)
            opening = asyncio.ensure_future(asyncio.to_thread(RocksStore, path, settings.rocks))
            try:
                store = await asyncio.shield(opening)
            except asyncio.CancelledError:
                store = await opening  # held by now, or soon: it must be closed below
                raise
            # 2. Restore.
            restored = await self._restore(place, store)
            self._probe(Point.PARTITION_RESTORED)
            # 3. What progress says, against what the source says.
            partition = await self._resume(place, store, restored)
            # 4. New tables: their progress is committed before their first record is folded.
            await _commit_first(partition, writer, store)
            logs = self._open_logs(place, partition)
            counts: dict[str, CellSink] = {}
            if self._sinks.hbase is not None:
                counts = {name: self._sinks.hbase.counts(name, place.partition) for name in partition.counts}
        except BaseException:
            await to_the_end(_close(writer, store))
            raise
        return Opened(partition, writer, store, logs, counts)

    def _open_logs(self, place: Place, partition: Partition) -> dict[Role, LogSink]:
        found: dict[Role, LogSink] = {}
        for role, one in partition.logs.items():
            if role is Role.ARCHIVE and self._sinks.archives is not None:
                topic = self._topics[place.topic]
                found[role] = self._sinks.archives.open(topic, place.partition, one.next_offset)
            elif role is Role.EVENTS and self._sinks.hbase is not None:
                events = self._sinks.hbase.events(place.topic, place.partition, one.next_offset)
                assert events is not None
                found[role] = events
        return found

    async def _restore(self, place: Place, store: RocksStore) -> Restored:
        began = time.monotonic()
        told = 0

        def tell(rows: int) -> None:
            nonlocal told
            self._probe(Point.ROWS_PARTLY_RESTORED)
            if rows - told >= TELL_ROWS:
                told = rows
                log.info("restoring", partition=str(place), rows=rows)

        async with ChangelogReader(
            self._settings.changelog, self._settings.app, place.topic, place.partition
        ) as reader:
            restored = await restore(store, reader, tell)
        self._listener.restored(place, restored.rows, time.monotonic() - began, cold=restored.cold)
        return restored

    async def _resume(self, place: Place, store: RocksStore, restored: Restored) -> Partition:
        topic = self._topics[place.topic]
        bounds = await self._source.bounds(place)
        self._refuse_half_reset(place, store)
        if restored.state_id is None:
            await self._refuse_lost_state(place)
        state_id = restored.state_id or secrets.token_hex(8)
        tables = []
        for spec in self._tables.values():
            if spec.topic == topic.name:
                progress = await self._table_progress(place, store, spec, state_id, bounds)
                tables.append(TableFold.resume(spec, progress, restored.ahead.get(spec.name)))
        logs = self._logs_followed(place, store, state_id, tables, bounds)
        counts = self._counts_followed(store, tables)
        for cut in self._accepted(place, bounds):
            _skip(tables, logs, cut)
        partition = Partition(topic, place.partition, store, state_id, tables, logs, counts, self._probe)
        await self._check_source(place, partition, bounds)
        return partition

    def _refuse_half_reset(self, place: Place, store: RocksStore) -> None:
        for name in ("", *(spec.name for spec in self._tables.values() if spec.topic == place.topic)):
            if store.get(progress_key(Role.RESET, name)) is not None:
                what, option = (f"table {name}", "--table") if name else (f"topic {place.topic}", "--topic")
                raise RefusedError(
                    what,
                    f"a reset of it began and didn't get to its end ({place})",
                    f"Run it again, it goes on: recount reset {option} {name or place.topic}",
                )

    async def _refuse_lost_state(self, place: Place) -> None:
        committed = await self._source.group_offset(place)
        if committed:
            raise RefusedError(
                f"state of {place} is lost",
                f"its changelog holds no progress, but the consumer group had got to offset {committed}",
                f"Restore the changelog topic; or count from the start again: recount reset --topic {place.topic}",
            )
        for spec in self._tables.values():
            if spec.topic == place.topic and self._sinks.hbase is not None:
                sink = self._sinks.hbase.counts(spec.name, place.partition)
                try:
                    async with asyncio.timeout(ASK_S):
                        known = await asyncio.get_running_loop().run_in_executor(self._asking, _known_to, sink)
                except SinkUnavailableError as err:
                    raise UntoldError(str(err)) from err
                except TimeoutError as err:
                    raise UntoldError(f"no answer within {ASK_S:g} s") from err
                if known:
                    raise RefusedError(
                        f"state of {place} is lost",
                        f"its changelog holds no progress, but HBase has counts of table {spec.name} up to {known}",
                        "Restore the changelog topic; or count from the start again:"
                        f" recount reset --topic {place.topic}",
                    )

    async def _table_progress(
        self, place: Place, store: RocksStore, spec: TableSpec, state_id: str, bounds: Bounds
    ) -> StateProgress:
        value = store.get(progress_key(Role.STATE, spec.name))
        if value is None:
            start = bounds.begin if spec.start_ms is None else await self._source.offset_at(place, spec.start_ms)
            # Also with a start in time: what was deleted before the log's begin may have been later than that.
            cuts = [Cut(0, start)] if start > 0 and start == bounds.begin else []
            return first_progress(self._topics[place.topic], spec, state_id, start, cuts)
        progress = decode_state(value)
        expected = fingerprint(self._topics[place.topic], spec)
        if progress.fingerprint != expected:
            raise RefusedError(
                f"table {spec.name}",
                f"its settings changed since it was counted (fingerprint {progress.fingerprint}, now {expected})",
                "Put the old settings back, or give the table a new name; or count it from its start again:"
                f" recount reset --table {spec.name}",
            )
        return progress

    def _logs_followed(
        self, place: Place, store: RocksStore, state_id: str, tables: list[TableFold], bounds: Bounds
    ) -> list[Followed]:
        hbase = self._sinks.hbase
        roles = [Role.ARCHIVE] if self._sinks.archives is not None else []
        roles += [Role.EVENTS] if hbase is not None and hbase.takes_events(place.topic) else []
        # What the source no longer has can't be followed from the tables' start.
        start = max([min((t.committed.start for t in tables), default=bounds.begin), bounds.begin])
        found = []
        for role in roles:
            value = store.get(progress_key(role))
            progress = FollowerProgress(state_id=state_id, start=start, next_offset=start)
            found.append(Followed.resume(role, progress if value is None else decode_follower(value)))
        return found

    def _counts_followed(self, store: RocksStore, tables: list[TableFold]) -> list[Followed]:
        found = []
        for table in tables if self._sinks.hbase is not None else ():
            value = store.get(progress_key(Role.COUNTS, table.spec.name))
            state = table.committed
            progress = CountsProgress(state_id=state.state_id, start=state.start, next_offset=state.start)
            if value is not None:
                progress = decode_counts(value)
            found.append(Followed.resume(Role.COUNTS, progress, table.spec.name))
        return found

    def _accepted(self, place: Place, bounds: Bounds) -> list[Cut]:
        accepted = self._settings.accept_gaps.get(place)
        if accepted is None or bounds.begin != accepted[1] + 1:
            return []
        return [Cut(accepted[0], accepted[1] + 1)]

    async def _check_source(self, place: Place, partition: Partition, bounds: Bounds) -> None:
        """Refuse a topic re-created under its name, and a gap."""
        progress = [table.committed for table in partition.tables]
        await check_counted(self._source, place, bounds, [*progress, *(one.durable for one in partition.logs.values())])
        if bounds.begin > partition.next_offset:
            raise gap(str(place), partition.next_offset, bounds.begin, _who_lacks(partition))


def _known_to(sink: CellSink) -> int | None:
    """How far a sink got, if it is ours. Blocking."""
    sink.claim()
    return sink.next_offset()


async def to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work` to its end even when cancelled meanwhile; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():  # however often: two revokes may cancel it twice
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


async def _close(writer: ChangelogWriter, store: RocksStore | None) -> None:
    try:
        await writer.close()
    finally:
        if store is not None:
            await asyncio.to_thread(store.close)


async def _commit_first(partition: Partition, writer: ChangelogWriter, store: RocksStore) -> None:
    """Commit the progress rows that don't exist yet, and only those: others may have rows ahead of them."""
    rows = [row for row in partition.first_cut().progress_rows() if store.get(row[0]) is None]
    if not rows:
        return
    last = await writer.commit(rows)
    position = None if any(table.ahead for table in partition.tables) else Position(partition.state_id, last)
    await asyncio.to_thread(store.commit, rows, position)


def _skip(tables: list[TableFold], logs: list[Followed], cut: Cut) -> None:
    """Go on after a gap the operator accepted: progress moves over it and keeps it as a cut."""
    for table in tables:
        if cut.first <= table.standing.next_offset < cut.next:
            witness = table.committed.witness
            before_ms = None if witness is None else witness.timestamp
            table.cuts.append(Cut(table.standing.next_offset, cut.next, before_ms))
            table.standing.next_offset = cut.next
    for log_follower in logs:
        if cut.first <= log_follower.next_offset < cut.next:
            log_follower.reached(cut.next)


def _who_lacks(partition: Partition) -> str:
    """In a past participle, what had not been done with the first of the records that are gone."""
    least = partition.next_offset
    if any(table.standing.next_offset == least for table in partition.tables):
        return "counted"
    lacking = {role for role, one in partition.logs.items() if one.next_offset == least}
    return "archived" if Role.ARCHIVE in lacking else "put into HBase as records"
