"""Assignment: the partitions that are ours, from gain to loss, in any order the group decides.

Nothing here waits inside the rebalance callback but `revoke`, and that has a budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from agents.cell_check import CellChecks
from agents.checkpointer import UNCOMMITTED_CELLS, Checkpointer, Committed
from agents.counts import Backlog
from agents.events import Listener
from agents.following import Followers, FollowSettings, Putters
from agents.opening import Opened, Opening, Sinks, to_the_end
from agents.partition import MAX_RECORDS, Partition, gap
from agents.room import Room
from agents.source import Place, Source
from agents.takeover import RETRY_S, Takeovers
from domain.errors import FencedError, RetriableError, TaintedError
from domain.position import Step
from domain.probe import Point, Probe, no_probe
from domain.record import Batch
from domain.rows import Role
from domain.spec import TableSpec, TopicSpec
from tables.changelog import ChangelogSettings
from tables.rocksdb import RocksSettings, StoreClosedError

log = structlog.get_logger(__name__)

TEND_S = 5.0


@dataclass(frozen=True, slots=True)
class AssignmentSettings:
    app: str
    data_dir: Path
    changelog: ChangelogSettings
    rocks: RocksSettings = field(default_factory=RocksSettings)
    follow: FollowSettings = field(default_factory=FollowSettings)
    checkpoint_interval_s: float = 1.0
    uncommitted: Room = field(default_factory=lambda: Room(UNCOMMITTED_CELLS))  # cells
    max_records: int = MAX_RECORDS
    revoke_budget_s: float = 5.0
    fenced_patience_s: float = 30.0  # a zombie hears of its rebalance within the session timeout
    accept_gaps: Mapping[Place, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Owned:
    """Everything that belongs to one partition while we own it."""

    opened: Opened
    partition: Partition
    checkpointer: Checkpointer
    followers: Followers
    hole_at: int = -1
    thrown_away: bool = False  # a batch, for want of room


class Assignment:
    """The partitions this worker owns. `crash` is called with what must end the process."""

    def __init__(
        self,
        topics: Iterable[TopicSpec],
        tables: Iterable[TableSpec],
        source: Source,
        sinks: Sinks,
        settings: AssignmentSettings,
        listener: Listener,
        crash: Callable[[BaseException], None],
        probe: Probe = no_probe,
    ) -> None:
        self.topics = {topic.name: topic for topic in topics}
        self.tables = {table.name: table for table in tables}
        self._source = source
        self._archives = sinks.archives
        self._settings = settings
        self._listener = listener
        self._crash = crash
        self._probe = probe
        opening = Opening(self.topics, self.tables, source, sinks, settings, listener, probe)
        self._takeovers = Takeovers(opening, self, source, listener, settings.fenced_patience_s, crash)
        self._owned: dict[Place, Owned] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._group_offsets: dict[Place, int] = {}
        self._closed = False
        self._recoverers = ThreadPoolExecutor(1, thread_name_prefix="archive-recovery")
        self._cell_checks = CellChecks(listener)
        self._putters = Putters(tables=len(self.tables))
        self._backlog = Backlog(settings.follow.counts.backlog_cells)

    # -- what we own ---------------------------------------------------------------------------

    def partitions(self) -> dict[Place, Partition]:
        """Restored partitions; one that is still restoring isn't among them. May be called from any thread."""
        return {place: owned.partition for place, owned in tuple(self._owned.items())}

    def positions(self) -> dict[Place, int]:
        """Where reading must go on, of partitions that are counted; others must not be read yet. From any thread."""
        return {place: one.next_offset for place, one in self.partitions().items()}

    def being_read(self) -> dict[Place, int]:
        """Where each partition stands that should move when there is something to read."""
        return {
            place: one.partition.next_offset
            for place, one in self._owned.items()
            if not one.followers.full and place not in self._takeovers.places
        }

    def waiting(self) -> list[Place]:
        """What is ours and isn't read yet."""
        return sorted(self._takeovers.places)

    # -- gain and loss -------------------------------------------------------------------------

    def assign(self, places: Iterable[Place]) -> None:
        """Take over partitions, in parallel and in the background: each is read as soon as it is ready."""
        for place in () if self._closed else places:
            if place not in self._owned and place not in self._takeovers.places:
                self._takeovers.begin(place)

    def next_offset(self, place: Place) -> int | None:
        """Of a partition that is counted."""
        owned = self._owned.get(place)
        return None if owned is None else owned.partition.next_offset

    def read_on(self, place: Place) -> None:
        """Its reading position is right: take its records in, unless a follower is full."""
        owned = self._owned.get(place)
        if owned is not None and not owned.followers.full:
            self._source.resume(place)

    def own(self, place: Place, opened: Opened) -> None:
        """Count a partition from here on."""
        partition, settings = opened.partition, self._settings
        followers = Followers(
            partition,
            opened.logs,
            opened.counts,
            settings.follow,
            self._backlog,
            self._putters,
            self._source,
            self._listener,
        )

        def committed(_: Partition, done: Committed) -> None:
            followers.committed(done)
            self._committed(partition, done)

        interval_s, limit = settings.checkpoint_interval_s, settings.max_records
        checkpointer = Checkpointer(
            partition,
            opened.writer,
            interval_s,
            committed,
            self._failed,
            limit,
            self._probe,
            settings.uncommitted,
            partial(self._crowded, place, followers),
        )
        followers.start(self._follower_ended)
        self._watch(checkpointer.start())
        owned = self._owned[place] = Owned(opened, partition, checkpointer, followers)
        self._listener.owned(place)
        if self._archives is not None and Role.ARCHIVE in opened.logs:
            self._spawn(self._recover_archive(place))
        self._spawn(self._check_cells(place, owned))

    async def revoke(self, budget_s: float | None = None) -> None:
        """Give everything up: a last checkpoint where it fits into the budget, else dropped as it is."""
        budget = self._settings.revoke_budget_s if budget_s is None else budget_s
        self._takeovers.end()
        owned, self._owned = self._owned, {}
        for task in list(self._background):
            task.cancel()
        letting_go = (self._let_go(place, one, budget) for place, one in owned.items())
        ended = await asyncio.gather(*letting_go, return_exceptions=True)
        await self._commit_group_offsets()
        for error in filter(None, ended):
            raise error

    async def _let_go(self, place: Place, owned: Owned, budget_s: float) -> None:
        try:
            async with asyncio.timeout(budget_s):
                await owned.checkpointer.close()
                await owned.followers.close_logs(budget_s / 2)
                self._probe(Point.LOGS_CLOSED)
                await owned.checkpointer.checkpoint()
                self._probe(Point.LAST_CHECKPOINT_DONE)
                await owned.followers.close_counts(budget_s / 4)
                await owned.checkpointer.checkpoint()
        except (TimeoutError, RetriableError, FencedError) as err:
            log.warning("no last checkpoint: the next owner folds it again", partition=str(place), reason=repr(err))
        finally:
            await self._drop(place, owned)

    async def _drop(self, place: Place, owned: Owned) -> None:
        """Let go of everything at once, waiting for nobody. Runs to its end: the directory is locked until then."""
        owned.checkpointer.abort()
        owned.followers.abort()
        await to_the_end(self._close_opened(place, owned))

    async def _close_opened(self, place: Place, owned: Owned) -> None:
        async with self._takeovers.lock(place):
            await owned.opened.close()
            self._listener.dropped(place)  # before the next restore is told

    async def close(self, budget_s: float) -> None:
        """The last revoke: nothing is folded after it."""
        self._closed = True
        await self.revoke(budget_s)

    # -- the path of a batch -------------------------------------------------------------------

    async def take(self, batch: Batch) -> None:
        """One batch from the transport."""
        place = Place(batch.topic, batch.partition)
        owned = self._owned.get(place)
        if owned is None or self._closed:
            return  # read for an assignment that is over
        self._probe(Point.BATCH_FETCHED)
        partition = owned.partition
        decision = partition.decide(batch)
        if decision is Step.STALE:
            self._listener.stale(place)
            if batch.end > partition.next_offset:  # what it holds beyond would be missing
                await self._source.seek(place, partition.next_offset)
            return
        if decision is Step.HOLE:
            if owned.thrown_away:
                return  # what follows a batch thrown away
            await self._seek_back(place, owned, batch.start)
            return
        owned.hole_at = -1
        if owned.checkpointer.crowded:  # fetched before intake paused: read again when there is room
            owned.thrown_away = True
            return
        try:
            timed = partition.fold(batch)
        except TaintedError as err:  # its rows can't be read
            self._lose(partition, err)
            return
        owned.followers.offer(timed)
        self._listener.folded(place, partition, len(batch))
        owned.checkpointer.folded()

    async def _seek_back(self, place: Place, owned: Owned, start: int) -> None:
        """A hole is a fetch thrown away: read again. The same hole twice may be records deleted for good."""
        self._listener.hole(place)
        partition = owned.partition
        if owned.hole_at == start:
            begin = (await self._source.bounds(place)).begin
            if begin > partition.next_offset:
                raise gap(str(place), partition.next_offset, begin)
        owned.hole_at = start
        log.info("hole: seeking back", partition=str(place), expected=partition.next_offset, got=start)
        await self._source.seek(place, partition.next_offset)

    async def _heal_stalls(self, before: dict[Place, int]) -> dict[Place, int]:
        """A thrown-away fetch at a log's end has no next batch to show the hole: look at the position.

        `before` is where each partition was a while ago; returns where it is now.
        """
        now = {p: one.partition.next_offset for p, one in self._owned.items() if not one.checkpointer.crowded}
        for place, next_offset in now.items():
            reading = self._source.reading(place)
            if before.get(place) == next_offset and reading is not None and reading > next_offset:
                self._listener.hole(place)
                log.info("stalled: seeking back", partition=str(place), expected=next_offset, reading=reading)
                await self._source.seek(place, next_offset)
        return now

    # -- what the parts report -----------------------------------------------------------------

    def _committed(self, partition: Partition, result: Committed) -> None:
        place = Place(partition.topic.name, partition.partition)
        self._listener.committed(place, partition, len(result.encoded.rows), result.seconds)
        self._group_offsets[place] = partition.group_offset()

    def _crowded(self, place: Place, followers: Followers, cells: int, full: bool) -> None:
        owned = self._owned.get(place)
        if full or owned is None or not owned.thrown_away:
            followers.crowded(cells, full)
        else:
            owned.thrown_away = False
            self._spawn(self._read_again(place, owned, cells))

    async def _read_again(self, place: Place, owned: Owned, cells: int) -> None:
        try:
            await self._source.seek(place, owned.partition.next_offset)
        except RetriableError as err:  # then the next batch shows the hole
            log.warning("not sought back", partition=str(place), reason=str(err))
        if self._owned.get(place) is owned and not owned.checkpointer.crowded:
            owned.followers.crowded(cells, full=False)

    def _failed(self, partition: Partition, error: FencedError | TaintedError) -> None:
        place = Place(partition.topic.name, partition.partition)
        if place in self._owned:
            self._listener.commit_failed(place, error)
            self._lose(partition, error, "commit outcome unknown: asking the group")

    def _lose(
        self,
        partition: Partition,
        error: FencedError | TaintedError,
        what: str = "rows can't be used: asking the group",
    ) -> None:
        """Drop a partition as it is, and take it over again if the group says that it is ours."""
        place = Place(partition.topic.name, partition.partition)
        owned = self._owned.get(place)
        if owned is None or owned.partition is not partition:
            return
        del self._owned[place]
        self._source.pause(place)
        # Not one of the background tasks: a revoke must not keep it from letting go.
        dropping = asyncio.create_task(self._drop(place, owned))
        self._watch(dropping)
        if isinstance(error, FencedError):
            log.error("fenced: somebody initialised after us; asking the group", partition=str(place))
        else:
            log.warning(what, partition=str(place), reason=str(error))
        self._takeovers.begin(place, after=dropping)

    def _follower_ended(self, partition: Partition, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, FencedError):
            # Its open files were taken for a dead owner's. Nothing is lost: begin again under a new attempt.
            self._failed(partition, TaintedError(f"archive of {partition.name}: {error}"))
        elif isinstance(error, TaintedError):  # rows to be put can't be read
            self._lose(partition, error)
        else:
            self._crash(error)

    async def _check_cells(self, place: Place, owned: Owned) -> None:
        """After a restore: what is in the directory may be older than whatever went wrong with it."""
        try:
            await self._cell_checks.check(place, owned.partition, lambda: self._owned.get(place) is owned)
        except StoreClosedError:
            return  # given up meanwhile
        except TaintedError as err:
            self._lose(owned.partition, err)

    async def _recover_archive(self, place: Place) -> None:
        """Finish what dead owners left open. Never on the way of counting; tried again for ever."""
        assert self._archives is not None
        while True:
            try:
                # Not on the loop's own threads: it may hang with HDFS, and checkpoints need those.
                work = partial(self._archives.recover, place.topic, place.partition)
                if await asyncio.get_running_loop().run_in_executor(self._recoverers, work):
                    return
            except RetriableError as err:
                self._listener.sink_failed(place, Role.ARCHIVE, err)
                log.warning("archive recovery: trying again", partition=str(place), reason=str(err))
            await asyncio.sleep(10 * RETRY_S)

    # -- tasks ---------------------------------------------------------------------------------

    async def tend_forever(self) -> None:
        """At leisure: heal stalls, tell lag tools where we are."""
        positions: dict[Place, int] = {}
        while True:
            await asyncio.sleep(TEND_S)
            try:
                positions = await self._heal_stalls(positions)
            except RetriableError as err:
                log.warning("stalled partitions not looked at", reason=str(err))
            await self._commit_group_offsets()

    async def _commit_group_offsets(self) -> None:
        offsets, self._group_offsets = self._group_offsets, {}
        if offsets:
            await self._source.commit_group_offsets(offsets)

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        self._watch(task)

    def _watch(self, task: asyncio.Task[None]) -> None:
        def ended(done: asyncio.Task[None]) -> None:
            self._background.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None:
                self._crash(error)

        task.add_done_callback(ended)
