"""The stream into the topic: whole batches through an idempotent producer, each acknowledged and noted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError

from app.demo.errors import DemoError
from app.demo.events import Column, Stream
from app.transport.admin import admin_client

DEADLINE_S = 30.0
BATCH_BYTES = 256 << 10
SLICE_SHARE = 100  # the stream goes out in this many slices, or in slices of this many events
SLICE_MAX = 10_000
# The time stamps lie in the recent past, none in the future.
TOPIC_SETTINGS = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": "600000"}


@dataclass(slots=True)
class Sent:
    """What Kafka has acknowledged: records, and the end of each partition."""

    midway_at: int = 0
    midway: asyncio.Event = field(default_factory=asyncio.Event)  # set when that many are acknowledged
    records: int = 0
    ends: dict[int, int] = field(default_factory=dict)
    failure: BaseException | None = None

    def note(self, partition: int, next_offset: int, count: int) -> None:
        self.records += count
        self.ends[partition] = max(self.ends.get(partition, 0), next_offset)
        if self.records >= self.midway_at:
            self.midway.set()


async def create_topic(bootstrap_servers: str, topic: str, partitions: int) -> None:
    async with admin_client(bootstrap_servers, DEADLINE_S, "the lab") as admin:
        answer = await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=TOPIC_SETTINGS)])
        refused = [str(error) for error in answer.topic_errors if error[1]]
    if refused:
        raise DemoError(f"topic {topic} can't be made", "\n".join(refused))


async def send(stream: Stream, bootstrap_servers: str, topic: str, sent: Sent, seconds: float) -> None:
    """Send all records, spread over at least that many seconds; returns when every one is acknowledged."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        enable_idempotence=True,
        max_batch_size=BATCH_BYTES,
        max_request_size=8 * BATCH_BYTES,
    )
    began = time.monotonic()
    size = min(SLICE_MAX, max(1, stream.count // SLICE_SHARE))
    try:
        await producer.start()
        waiting: list[asyncio.Future[Any]] = []
        for number, columns in enumerate(stream.slices(size)):
            await asyncio.sleep(max(0.0, began + seconds * number * size / stream.count - time.monotonic()))
            groups = await asyncio.gather(
                *(_send_column(producer, topic, partition, column, sent) for partition, column in enumerate(columns))
            )
            waiting = [one for one in waiting if not one.done()] + [one for group in groups for one in group]
            _check(sent)
        await asyncio.wait_for(_all(waiting), DEADLINE_S)
        _check(sent)
    except (KafkaError, OSError, TimeoutError) as err:
        raise DemoError("the events can't be sent", repr(err)) from err
    finally:
        await producer.stop()


async def _all(waiting: Sequence[Awaitable[Any]]) -> None:
    await asyncio.gather(*waiting, return_exceptions=True)


def _check(sent: Sent) -> None:
    if sent.failure is not None:
        raise DemoError("Kafka didn't take the events", repr(sent.failure)) from sent.failure


async def _send_column(
    producer: Any, topic: str, partition: int, column: Column, sent: Sent
) -> list[asyncio.Future[Any]]:
    futures = []
    for batch, count in _batches(producer.create_batch, column):
        future = await producer.send_batch(batch, topic, partition=partition)
        future.add_done_callback(_noted(sent, partition, count))
        futures.append(future)
    return futures


def _batches(new_batch: Callable[[], Any], column: Column) -> Iterator[tuple[Any, int]]:
    rows = zip(column.timestamps, column.keys, column.values, strict=True)
    batch, count = new_batch(), 0
    for timestamp, key, value in rows:
        if batch.append(timestamp=timestamp, key=key, value=value) is None:
            batch.close()
            yield batch, count
            batch, count = new_batch(), 0
            if batch.append(timestamp=timestamp, key=key, value=value) is None:
                raise DemoError(f"an event of {len(value or b'')} bytes doesn't fit a batch")
        count += 1
    if count:
        batch.close()
        yield batch, count


def _noted(sent: Sent, partition: int, count: int) -> Callable[[asyncio.Future[Any]], None]:
    def note(future: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            sent.failure = sent.failure or error
        else:
            sent.note(partition, future.result().offset + count, count)

    return note
