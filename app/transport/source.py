"""Questions about source logs, and the reading position: `agents.source.Source` on Kafka and the Faust app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from agents.source import GroupAnswer, Place, SourceRecord
from app.transport.admin import AnyBroker, topic_settings
from app.transport.group import GroupMember
from app.transport.service import RecountApp
from app.transport.topics import Topics
from domain.errors import SinkUnavailableError
from tables.changelog import Bounds

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

DEADLINE_S = 20.0
ASK_S = 5.0
REQUEST_TIMEOUT_MS = 5_000  # a broker may hang: the client must notice while we still wait for another's answer


class KafkaSource:
    """One consumer of its own, outside the group, for questions; the app's consumer for positions.

    Raises `SinkUnavailableError` (ask again) when Kafka doesn't answer in time.
    """

    def __init__(self, bootstrap_servers: str, group: str, topics: Topics | None = None) -> None:
        self._bootstrap = bootstrap_servers
        self._group = group
        self._topics = topics
        self._app: RecountApp | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._one_reader = asyncio.Lock()

    def attach(self, app: RecountApp) -> None:
        self._app = app

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        await self._bounded(self._consumer.start())

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def prepare(self, place: Place) -> None:
        if self._topics is not None:
            await self._topics.cover(place)

    async def bounds(self, place: Place) -> Bounds:
        at = TopicPartition(*place)
        begin = await self._bounded(self._reader.beginning_offsets([at]))
        end = await self._bounded(self._reader.end_offsets([at]))
        return Bounds(begin[at], end[at])

    async def offset_at(self, place: Place, time_ms: int) -> int:
        at = TopicPartition(*place)
        found = (await self._bounded(self._reader.offsets_for_times({at: time_ms})))[at]
        return found.offset if found is not None else (await self.bounds(place)).end

    async def record_at(self, place: Place, offset: int) -> SourceRecord | None:
        at = TopicPartition(*place)
        async with self._one_reader:
            reader = self._reader
            reader.assign([at])
            try:
                return await self._bounded(self._read_one(reader, at, offset))
            finally:
                reader.unsubscribe()

    async def _read_one(self, reader: AIOKafkaConsumer, at: TopicPartition, offset: int) -> SourceRecord | None:
        reader.seek(at, offset)
        # Past the offset without a record there: it was compacted away, or is a control record.
        while await reader.position(at) <= offset:
            found = await reader.getmany(at, timeout_ms=500, max_records=1)
            for record in found.get(at, ()):
                same = record.offset == offset
                return SourceRecord(record.offset, record.timestamp, record.key, record.value) if same else None
        return None

    async def compacts(self, topic: str) -> bool:
        async with self._admin() as admin:
            settings = await self._bounded(topic_settings(admin, [topic]))
        return "compact" in (settings[topic]["cleanup.policy"] or "")

    async def group_offset(self, place: Place) -> int | None:
        async with self._admin() as admin:
            found = await self._bounded(admin.list_consumer_group_offsets(self._group))
        committed = found.get(TopicPartition(*place))
        return committed.offset if committed is not None and committed.offset >= 0 else None

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[Any]:
        admin = AnyBroker(bootstrap_servers=self._bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
        try:
            await self._bounded(admin.start())
            yield admin
        finally:
            await admin.close()

    async def commit_group_offsets(self, offsets: dict[Place, int]) -> None:
        consumer = self._running.consumer
        thread = consumer._thread
        wanted = {TopicPartition(*place): OffsetAndMetadata(offset, "") for place, offset in offsets.items()}

        async def commit() -> None:
            # The deadline is inside the thread: a job given up outside would go on there and keep fetches waiting.
            await asyncio.wait_for(thread._ensure_consumer().commit(wanted), DEADLINE_S / 4)

        try:
            await thread.call_thread(commit)
        except (KafkaError, TimeoutError) as err:
            log.info("group offset not committed: lag tools only", reason=repr(err))

    async def ask_group(self) -> GroupAnswer:
        thread = self._running.consumer._thread

        async def ask() -> GroupAnswer:
            member = cast("GroupMember", thread._ensure_consumer()._coordinator)
            return await asyncio.wait_for(member.ask(), ASK_S)

        return cast("GroupAnswer", await self._bounded(thread.call_thread(ask)))

    async def seek(self, place: Place, offset: int) -> None:
        consumer = self._running.consumer
        if TP(*place) not in consumer.assignment():
            return
        try:
            await self._bounded(consumer.seek_wait({TP(*place): offset}))
        except SinkUnavailableError:
            if TP(*place) in consumer.assignment():
                raise
            # Lost while we asked: somebody else reads it now.

    def reading(self, place: Place) -> int | None:
        subscription = self._running.consumer._thread._ensure_consumer()._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        state = subscription.assignment.state_value(TopicPartition(*place))
        position: int | None = None if state is None else state._position
        return position

    def pause(self, place: Place) -> None:
        self._running.consumer.pause_partitions({TP(*place)})

    def resume(self, place: Place) -> None:
        consumer = self._running.consumer
        if TP(*place) in consumer.assignment():
            consumer.resume_partitions({TP(*place)})

    def end_offset(self, place: Place) -> int | None:
        """The log's end as of the last fetch; None while unknown or not assigned."""
        consumer = self._running.consumer
        if TP(*place) not in consumer.assignment():
            return None
        end: int | None = consumer.highwater(TP(*place))
        return end

    @property
    def _reader(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "start first"
        return self._consumer

    @property
    def _running(self) -> RecountApp:
        assert self._app is not None, "attach first"
        return self._app

    async def _bounded(self, call: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await call
        except (KafkaError, OSError, TimeoutError) as err:
            if self._consumer is not None:
                # The client gives up asking a leader that hangs, but does not ask who leads now.
                self._consumer._client.force_metadata_update()
            raise SinkUnavailableError("Kafka", repr(err)) from err
