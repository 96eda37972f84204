"""Faust's transport with one message per partition fetch: a `Batch`, its source positions with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, cast

import faust
from aiokafka.errors import OffsetOutOfRangeError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from agents.counted_log import recreated
from agents.partition import gap
from agents.source import Place
from app.transport.group import GroupMember
from domain.errors import RefusedError
from domain.record import Batch
from tables.fetch import fetch

Positions = Callable[[], Mapping[Place, int]]


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands the batch to the agent as it is."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001
            return create_event(None, message.value, message.headers, message)

        return decode


class BatchThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread that owns the aiokafka consumer and its heartbeats."""

    async def on_start(self) -> None:
        await super().on_start()
        # It joins when Faust subscribes, later.
        GroupMember.take_over(self._consumer._coordinator, self._ended)

    def _ended(self, error: BaseException) -> None:
        """Without a membership there is nothing to go on with: told in the app's own loop."""
        self.parent_loop.call_soon_threadsafe(self.app.give_up, error)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Every seek is ours, and aborted records never happened.
        consumer._auto_offset_reset = "none"
        consumer._isolation_level = "read_committed"
        return consumer

    async def _fetch_records(  # Faust names the arguments
        self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None
    ) -> dict[Any, list[Batch]]:
        del max_records
        if not self.consumer.flow_active:
            return {}
        try:
            batches = await fetch(consumer, active_partitions, timeout or 0)
        except OffsetOutOfRangeError as err:
            raise await _out_of_range(consumer, err, self.transport.positions()) from err
        return {TP(batch.topic, batch.partition): [batch] for batch in batches}


async def _out_of_range(consumer: Any, error: OffsetOutOfRangeError, folded: Mapping[Place, int]) -> RefusedError:
    """We asked for records the log doesn't have: deleted below its start, or it was cut short.

    What was fetched before and isn't `folded` ends with this process: it belongs to the gap.
    """
    at, position = next(iter(error.args[0].items()))
    begin = (await consumer.beginning_offsets([at]))[at]
    place = Place(at.topic, at.partition)
    if begin > position:
        return gap(str(place), min(position, folded.get(place, position)), begin)
    return recreated(place, f"the log no longer reaches offset {position}")


class BatchConsumer(driver.Consumer):  # type: ignore[misc]
    """Yields batches, and seeks where our progress says, never where the group committed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._resumed = asyncio.Event()

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    def resume_partitions(self, tps: Iterable[Any]) -> None:
        super().resume_partitions(tps)
        self._resumed.set()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        if not self._get_active_partitions():
            # None is ready, or has room in its queue. Faust would sleep, however soon one is.
            self._resumed.clear()
            await self.wait(self._resumed, timeout=timeout)
            return
        records, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if not records or self.should_stop:
            return
        for place, (batch,) in records.items():
            # What is thrown away here leaves a hole, and the position chain reads it again.
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            self._read_offset[place] = None  # the chain decides what is old, not Faust
            yield place, self._message(place, batch)

    def on_buffer_drop(self, tp: Any) -> None:
        """Faust takes a partition back in once its queue is short, also one that we paused meanwhile."""
        super().on_buffer_drop(tp)
        self._active_partitions -= self._paused_partitions
        self._resumed.set()

    def _message(self, place: Any, batch: Batch) -> Any:
        return ConsumerMessage(
            batch.topic,
            batch.partition,
            batch.start,
            0.0,
            0,
            (),
            None,
            batch,
            None,
            0,
            batch.size,
            place,
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Faust has just resumed all of an assignment: what isn't ready is held until somebody resumes it."""
        wanted = cast("BatchTransport", self.transport).positions()
        mine = self.assignment()
        places = {TP(*place): offset for place, offset in wanted.items() if TP(*place) in mine}
        self.pause_partitions(mine - places.keys())
        if places:
            await self.seek_wait(places)


class BatchTransport(driver.Transport):  # type: ignore[misc]
    Consumer = BatchConsumer

    def __init__(self, *args: Any, positions: Positions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions = positions
