"""Starting tables, or a whole topic, over: what there is, and taking it away in an order that can be cut short.

1. Marks in the changelog: no worker counts these tables any more.   2. Their rows (a whole topic's go with 7).
3. Local directories.   4. A whole topic's archive is moved aside.   5. HBase tables.   6. Group offsets.
7. The marks; or the whole changelog topic. Until then a worker refuses and says to run the reset again.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agents.counted_log import check_counted, recreated
from agents.source import Place
from app.config import Config
from app.instance import InstanceLock
from app.reset_plan import (
    Plan,
    found_in,
    offsets_going,
    refuse_lost,
    refuse_unknown_topic,
    tables_of,
    topic_of,
)
from app.transport.admin import admin_client, delete_topic, topics_of
from app.transport.members import Member, forget_offsets, members_of, offsets_of, refuse_members
from app.transport.source import KafkaSource
from domain.errors import ConfigError, DependencyError, FencedError, RefusedError, SinkUnavailableError
from domain.spec import changelog_topic
from sinks.archive.fs import open_file_system
from sinks.archive.path import topic_folder
from sinks.hbase.connection import Pool
from sinks.hbase.drop import drop, droppable, existing
from sinks.hbase.format import events_table
from tables.changelog import ChangelogReader, ChangelogSettings, ChangelogWriter
from tables.reset import WHOLE_TOPIC, Holding, PartitionReset, holding
from tables.restore import restore
from tables.rocksdb import RocksSettings, RocksStore

KAFKA_S = 60.0
LEAVE_S = 5.0  # beyond the session timeout: the broker looks now and then
POLL_S = 0.5
HBASE_S = 120.0  # disabling a table of many regions takes its time
AGAIN = "run it again: it goes on"


class Step(StrEnum):
    """What is done; dying after any of them leaves what running it again finishes."""

    MARKED = "marked"
    CLEARED = "rows deleted"
    FOLDERS = "local state removed"
    ARCHIVE = "archive moved aside"
    HBASE = "HBase tables dropped"
    OFFSETS = "group offsets forgotten"
    CHANGELOG = "ended"


@contextmanager
def _told_of(url: str) -> Iterator[None]:
    try:
        yield
    except SinkUnavailableError as err:
        fix = f"start it, or correct sinks.archive.url; then {AGAIN}"
        raise DependencyError(f"archive {url}", err.reason, fix) from err


Doing = Callable[[str], None]
Reached = Callable[[Step], None]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class _Kafka:
    """What Kafka said."""

    topics: Mapping[str, int]  # partitions of each
    offsets: Mapping[Place, int]


@dataclass(slots=True)
class _Taken:
    """A partition fenced and restored."""

    share: PartitionReset
    writer: ChangelogWriter
    store: RocksStore | None = None
    name: str = field(default="", kw_only=True)


class Reset:
    """One `recount reset`. `doing` is told what is going on, again and again."""

    def __init__(self, config: Config, doing: Doing) -> None:
        self._config = config
        self._doing = doing
        self._changelog = ChangelogSettings(config.kafka.bootstrap_servers)
        self._folder = config.app.data_dir / config.app.instance
        self._lock: InstanceLock | None = None

    def tell(self, doing: Doing) -> None:
        """Who is told from now on."""
        self._doing = doing

    def _counted(self, where: Place | str, what: str, count: int) -> None:
        self._doing(f"{where}: {count:,} {what}")

    # -- what there is -------------------------------------------------------------------------

    async def plan(self, table: str | None, topic: str | None) -> Plan:
        """Of a table, or of a whole topic; changes nothing.

        Raises `RefusedError` while workers run and where something else must be done, `ConfigError`, `DependencyError`.
        """
        config = self._config
        kafka = await self._ask_kafka()
        self._hold_instance()
        by_topic: dict[str, dict[int, Holding]] = {}
        at = topic_of(config, table, topic) if table is not None else topic
        for name in [one.name for one in config.topics] if at is None else [at]:
            by_topic[name] = await self._holdings(name, kafka)
        if at is None:
            assert table is not None
            at = found_in(table, by_topic)
        refuse_unknown_topic(config, at, kafka.topics)
        holdings = by_topic[at]
        offsets = {place.partition: offset for place, offset in kafka.offsets.items() if place.topic == at}
        if table is not None:
            refuse_lost(config, at, table, holdings, offsets)
            await self._refuse_recreated(at, holdings, kafka)
        tables = tables_of(config, at, holdings) if table is None else (table,)
        return Plan(
            app=config.app.id,
            topic=at,
            tables=tables,
            whole=table is None,
            changelog=changelog_topic(config.app.id, at) in kafka.topics,
            holdings=holdings,
            offsets=offsets_going(tables, holdings, offsets, whole=table is None),
            hbase=await self._hbase_tables(at, tables, holdings, whole=table is None),
            folders=self._folders(at, [*holdings, *offsets]),
            archive=await self._archive_folder(at) if table is None else None,
            finals=tuple({one.finals_topic: None for one in config.tables if one.finals_topic and one.name in tables}),
        )

    async def _ask_kafka(self) -> _Kafka:
        app = self._config.app.id
        deadline_s = KAFKA_S + self._config.kafka.session_timeout.ms / 1000
        async with admin_client(self._changelog.bootstrap_servers, deadline_s, "kafka.bootstrap_servers") as admin:
            refuse_members(app, await self._once_left(admin))
            topics = {name: one.partitions for name, one in (await topics_of(admin)).items()}
            return _Kafka(topics, await offsets_of(admin, app))

    async def _once_left(self, admin: Any) -> list[Member]:
        """Members that are still there when those of stopped workers are gone."""
        session_s = self._config.kafka.session_timeout.ms / 1000
        end = time.monotonic() + session_s + LEAVE_S
        while (members := await members_of(admin, self._config.app.id)) and time.monotonic() < end:
            self._doing(
                f"waiting {session_s:g} s for stopped workers to leave the group: {', '.join(map(str, members))}"
            )
            await asyncio.sleep(POLL_S)
        return members

    def _hold_instance(self) -> None:
        if self._lock is not None:
            return
        try:
            self._lock = InstanceLock(self._folder, self._config.app.instance)
        except OSError as err:
            raise ConfigError(
                "app.data_dir",
                f"{self._folder} can't be written ({err.strerror})",
                "run this where a worker runs, or set RECOUNT__APP__DATA_DIR to a folder with room for the state",
            ) from err

    async def _holdings(self, topic: str, kafka: _Kafka) -> dict[int, Holding]:
        found = {}
        for partition in range(kafka.topics.get(changelog_topic(self._config.app.id, topic), 0)):
            place = Place(topic, partition)
            async with self._restored(place) as store:
                self._doing(f"{place}: looking at its tables")
                found[partition] = await asyncio.to_thread(holding, store, partial(self._counted, place, "cells"))
        return found

    @asynccontextmanager
    async def _restored(self, place: Place) -> AsyncIterator[RocksStore]:
        store = await self._restore(place)
        try:
            yield store
        finally:
            await asyncio.to_thread(store.close)

    async def _restore(self, place: Place) -> RocksStore:
        """The state of a partition as a worker of this instance restores it; to be closed."""
        store = await asyncio.to_thread(RocksStore, self._folder / "state" / str(place), RocksSettings())
        try:
            async with ChangelogReader(self._changelog, self._config.app.id, place.topic, place.partition) as reader:
                self._doing(f"{place}: reading the changelog")
                await restore(store, reader, partial(self._counted, place, "rows read"))
        except BaseException:
            await asyncio.to_thread(store.close)
            raise
        return store

    async def _refuse_recreated(self, topic: str, holdings: Mapping[int, Holding], kafka: _Kafka) -> None:
        """Of a topic that was made again one table alone can't be started over."""
        counted = {
            Place(topic, partition): [size.progress for size in one.tables.values() if size.progress is not None]
            for partition, one in holdings.items()
        }
        if topic not in kafka.topics or not any(counted.values()):
            return  # nothing to ask; the client can't be stopped right after its start either
        source = KafkaSource(self._changelog.bootstrap_servers, self._config.app.id)
        await source.start()
        try:
            for place, progress in counted.items():
                if not progress:
                    continue
                if place.partition >= kafka.topics[topic]:
                    raise recreated(place, f"the topic has {kafka.topics[topic]} partitions now")
                await check_counted(source, place, await source.bounds(place), progress)
        finally:
            await source.stop()

    async def _hbase_tables(
        self, topic: str, tables: tuple[str, ...], holdings: Mapping[int, Holding], *, whole: bool
    ) -> tuple[str, ...]:
        section = self._config.sinks.hbase
        if section is None:
            return ()
        self._doing("looking at HBase")

        def ask(pool: Pool) -> list[str]:
            only = topic if whole else None
            found = [name for table in tables for name in droppable(pool, self._config.app.id, table, only)]
            if whole and (topic in section.events or any("events" in one.logs for one in holdings.values())):
                found += existing(pool, [events_table(topic)])
            return found

        return tuple(await self._with_hbase(ask))

    async def _with_hbase(self, work: Callable[[Pool], Found]) -> Found:
        section = self._config.sinks.hbase
        assert section is not None
        pool = Pool(*section.thrift, timeout_s=HBASE_S)
        try:
            return await asyncio.to_thread(work, pool)
        except SinkUnavailableError as err:
            fix = f"start it, or correct sinks.hbase.thrift; then {AGAIN}"
            raise DependencyError(err.sink, err.reason, fix) from err
        finally:
            pool.close()

    def _folders(self, topic: str, partitions: list[int]) -> tuple[Path, ...]:
        paths = [self._folder / "state" / str(Place(topic, one)) for one in sorted(set(partitions))]
        return tuple(path for path in paths if path.exists())

    async def _archive_folder(self, topic: str) -> str | None:
        section = self._config.sinks.archive
        if section is None:
            return None
        with _told_of(section.url):
            files, root = open_file_system(section.url)
            folder = topic_folder(root, topic)
            return None if await asyncio.to_thread(files.status, folder) is None else folder

    # -- taking it away ------------------------------------------------------------------------

    async def run(self, plan: Plan, reached: Reached) -> str | None:
        """Do it; returns where the archive went, if it was moved. After any error or death: `plan` and `run` again."""
        await self._ask_kafka()  # nobody has joined since
        taken: list[_Taken] = []
        try:
            await self._run_changelog(plan, taken, reached)
            self._doing("removing local state")
            for folder in plan.folders:
                await asyncio.to_thread(shutil.rmtree, folder)
            reached(Step.FOLDERS)
            moved = await self._move_archive(plan)
            reached(Step.ARCHIVE)
            if plan.hbase:
                self._doing("dropping HBase tables")
                await self._with_hbase(lambda pool: drop(pool, plan.hbase))
            reached(Step.HBASE)
            places = [Place(plan.topic, partition) for partition in plan.offsets]
            await forget_offsets(self._changelog.bootstrap_servers, plan.app, places)
            reached(Step.OFFSETS)
            await self._end(plan, taken)
            reached(Step.CHANGELOG)
        except FencedError as err:
            raise RefusedError(
                f"reset of {plan.topic}", f"a worker took a partition over meanwhile ({err})", f"Stop it, then {AGAIN}"
            ) from err
        finally:
            for one in taken:
                await self._let_go(one)
        return moved

    async def _run_changelog(self, plan: Plan, taken: list[_Taken], reached: Reached) -> None:
        for partition in plan.holdings:
            one = await self._take(plan, Place(plan.topic, partition))
            taken.append(one)  # one by one: whatever is held must be let go after an error
        reached(Step.MARKED)
        # Whoever starts from here on refuses at a mark; a worker that came before it is a member now.
        await self._ask_kafka()
        for one in taken:
            if one.store is not None:
                await one.share.clear(one.store, partial(self._counted, one.name, "rows deleted"))
                await asyncio.to_thread(one.store.close)
        reached(Step.CLEARED)

    async def _take(self, plan: Plan, place: Place) -> _Taken:
        """Fence a partition, read what there is to its end, and mark it."""
        self._doing(f"{place}: marking")
        writer = ChangelogWriter(self._changelog, plan.app, place.topic, place.partition)
        names = [WHOLE_TOPIC] if plan.whole else plan.tables
        one = _Taken(PartitionReset(writer, names), writer, name=str(place))
        try:
            await writer.fence()
            if not plan.whole:
                one.store = await self._restore(place)
            await one.share.mark(one.store)
        except BaseException:
            await self._let_go(one)
            raise
        return one

    async def _let_go(self, one: _Taken) -> None:
        await one.writer.close()
        if one.store is not None:
            await asyncio.to_thread(one.store.close)

    async def _move_archive(self, plan: Plan) -> str | None:
        section = self._config.sinks.archive
        if plan.archive is None or section is None:
            return None
        self._doing("moving the archive aside")
        aside = f"{plan.archive}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        with _told_of(section.url):
            files, _ = open_file_system(section.url)
            await asyncio.to_thread(files.rename, plan.archive, aside)
        return aside

    async def _end(self, plan: Plan, taken: list[_Taken]) -> None:
        self._doing("ending")
        if not plan.whole:
            for one in taken:
                await one.share.end()
        elif plan.changelog:
            async with admin_client(self._changelog.bootstrap_servers, KAFKA_S, "kafka.bootstrap_servers") as admin:
                await delete_topic(admin, changelog_topic(plan.app, plan.topic))
