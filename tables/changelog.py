"""The changelog: one compacted topic per source topic, one partition per source partition.

Every checkpoint is one transaction under the partition's own transactional id, so whoever initialises last
fences everybody before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    NodeNotReadyError,
    ProducerFenced,
    RecordListTooLargeError,
)
from aiokafka.protocol.transaction import EndTxnRequest

from domain.errors import FencedError, TaintedError
from domain.probe import Point, Probe, no_probe
from domain.record import Int64s
from domain.rows import Row
from domain.spec import changelog_topic
from tables.fetch import fetch

BATCH_BYTES = 512 << 10
FETCH_BYTES = 1 << 20  # of each partition restored: those of a whole worker are in memory at once
MAX_MESSAGE_BYTES = 2 * BATCH_BYTES  # what the topics we write are made to take
TRANSACTION_TIMEOUT_MS = 15_000
DROP_POLL_S = 0.1
FENCED_STATES = "FATAL_ERROR"
NO_FINALS: Mapping[str, Sequence[Row]] = {}

Result = TypeVar("Result")


def transactional_id(app: str, topic: str, partition: int) -> str:
    return f"{app}.{topic}.{partition}"


@dataclass(frozen=True, slots=True)
class ChangelogSettings:
    bootstrap_servers: str
    request_timeout_ms: int = 10_000


class ChangelogWriter:
    """The fenced writer of one changelog partition.

    After any error but a clean one it is tainted: `close` it, start another, restore.
    """

    def __init__(
        self, settings: ChangelogSettings, app: str, topic: str, partition: int, probe: Probe = no_probe
    ) -> None:
        self._settings = settings
        self._topic = changelog_topic(app, topic)
        self._partition = partition
        self._id = transactional_id(app, topic, partition)
        self._producer: AIOKafkaProducer | None = None
        self._tainted = ""
        self._probe = probe

    async def fence(self) -> None:
        """InitProducerId: from here on every earlier writer of this partition is a zombie."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            transactional_id=self._id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            request_timeout_ms=self._settings.request_timeout_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=4 * BATCH_BYTES,
            acks="all",
        )
        self._producer = producer
        _end_once(producer)
        await self._bounded("InitProducerId", producer.start())

    async def commit(self, rows: Sequence[Row], finals: Mapping[str, Sequence[Row]] = NO_FINALS) -> int:
        """Write the rows as one transaction, in order; returns the offset of the last one.

        `finals` go to their topics in the same transaction, into the partition of the same number.
        Raises `FencedError`, or `TaintedError` when the outcome is unknown.
        """
        assert self._producer is not None, "fence first"
        if self._tainted:
            raise TaintedError(self._tainted)
        return await self._bounded("commit", self._commit(self._producer, rows, finals))

    async def _commit(
        self, producer: AIOKafkaProducer, rows: Sequence[Row], finals: Mapping[str, Sequence[Row]]
    ) -> int:
        await producer.begin_transaction()
        others = [
            (topic, one) for topic, records in finals.items() for one, _ in await self._send(producer, topic, records)
        ]
        sent = await self._send(producer, self._topic, rows)
        self._probe(Point.ROWS_SENT)
        # aiokafka would commit past a failed batch: every one is checked before the commit.
        for topic, future in others:
            await _acked(topic, future)
        last = -1
        for future, count in sent:
            last = (await _acked(self._topic, future)).offset + count - 1
        self._probe(Point.ROWS_ACKED)
        self._probe(Point.COMMIT_BEGUN)
        await producer.commit_transaction()
        return last

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, rows: Sequence[Row]
    ) -> list[tuple[Awaitable[Any], int]]:
        """Hand rows over in batches; returns each one's future and size."""
        sent: list[tuple[Awaitable[Any], int]] = []
        now_ms = int(time.time() * 1000)
        place = 0
        while place < len(rows):
            batch = producer.create_batch()
            first = place
            while place < len(rows):
                key, value = rows[place]
                if batch.append(timestamp=now_ms, key=key, value=value) is None:
                    break
                place += 1
            if place == first:
                raise TaintedError(f"{topic}: a row of {len(rows[place][0])} key bytes does not fit a batch")
            batch.close()
            sent.append((await producer.send_batch(batch, topic, partition=self._partition), place - first))
        return sent

    async def _bounded(self, what: str, call: Awaitable[Result]) -> Result:
        self._tainted = f"{self._id}: {what} did not end cleanly"
        result = await self._translated(what, call)
        self._tainted = ""
        return result

    async def _translated(self, what: str, call: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                return await call
        except ProducerFenced as err:
            raise FencedError(f"{self._id}: {what}") from err
        except AssertionError as err:
            # The background sender noticed first: aiokafka's state machine asserts.
            if FENCED_STATES in str(err):
                raise FencedError(f"{self._id}: {what}: {err}") from err
            raise
        except TimeoutError as err:
            raise TaintedError(f"{self._id}: {what} took over {self._settings.request_timeout_ms} ms") from err
        except (KafkaError, OSError) as err:
            raise TaintedError(f"{self._id}: {what}: {err!r}") from err

    async def close(self) -> None:
        """Let go of the producer without waiting for a flush. Safe to repeat."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await drop_producer(producer)


def _end_once(producer: AIOKafkaProducer) -> None:
    """Take an EndTxn whose connection broke for the unknown outcome it is, where aiokafka asks again.

    Asked again, the transaction ends, and the first request may come to the broker after that: it is for whatever
    transaction is open then, and would commit part of a checkpoint. Another epoch keeps it out.
    """
    client, send = producer.client, producer.client.send

    async def send_once(node_id: int, request: Any, **options: Any) -> Any:
        try:
            return await send(node_id, request, **options)
        except NodeNotReadyError:
            raise  # it was not sent
        except KafkaError as err:
            if isinstance(request, EndTxnRequest):
                transaction = producer._txn_manager  # noqa: SLF001 - and does what it does after other fatal answers
                transaction.fatal_error(err)
                transaction.wait_for_transaction_end().exception()  # looked at: the commit may have been given up
            raise

    client.send = send_once


async def _acked(topic: str, batch: Awaitable[Any]) -> Any:
    """Where a batch went. Raises `TaintedError` that says what to do about one that the brokers will never take."""
    try:
        return await batch
    except (MessageSizeTooLargeError, RecordListTooLargeError) as err:
        raise TaintedError(
            f"topic {topic} refuses a batch as too large: nothing is committed until its max.message.bytes is raised:"
            f" kafka-configs.sh --alter --entity-type topics --entity-name {topic}"
            f" --add-config max.message.bytes={MAX_MESSAGE_BYTES}"
        ) from err


async def drop_producer(producer: AIOKafkaProducer) -> None:
    """Close connections at once: what is in flight stays uncommitted and the next owner's fence aborts it."""
    producer._closed = True  # noqa: SLF001 - stop() would flush; also silences its destructor
    sender = producer._sender.sender_task  # noqa: SLF001
    while sender is not None and not sender.done():
        # More than once: it takes the first cancel as a wish to end its requests, and waits for them for ever.
        sender.cancel()
        await asyncio.wait([sender], timeout=DROP_POLL_S)
    if sender is not None and not sender.cancelled():
        sender.exception()  # looked at, or asyncio complains
    client = producer.client
    for connection in list(client._conns.values()):  # noqa: SLF001
        writer = connection._writer  # noqa: SLF001
        connection.close()
        if writer is not None:  # its close alone waits until the broker took what is buffered
            writer.transport.abort()
    await client.close()


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets of a log: [begin, end). For a read_committed reader `end` is the last stable offset."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Committed rows in order, as columns of equal lengths."""

    offsets: Int64s
    keys: Sequence[bytes]
    values: Sequence[bytes | None]


class ChangelogReader:
    """Reads committed rows of changelog partitions, in order."""

    def __init__(self, settings: ChangelogSettings, app: str, topic: str, partition: int) -> None:
        self._settings = settings
        self._place = TopicPartition(changelog_topic(app, topic), partition)
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap_servers,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            request_timeout_ms=self._settings.request_timeout_ms,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._consumer = consumer
        try:
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as err:
            await consumer.stop()
            raise TaintedError(f"{self._place.topic}-{self._place.partition}: {err!r}") from err
        known = consumer.partitions_for_topic(self._place.topic)
        if known and self._place.partition not in known:
            await consumer.stop()
            raise TaintedError(f"{self._place.topic} has no partition {self._place.partition} yet: it is growing")
        consumer.assign([self._place])
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._consumer is not None:
            await self._consumer.stop()

    async def bounds(self) -> Bounds:
        assert self._consumer is not None
        try:
            begin = await self._consumer.beginning_offsets([self._place])
            end = await self._consumer.end_offsets([self._place])
        except KafkaError as err:
            raise TaintedError(f"{self._place.topic}-{self._place.partition}: {err!r}") from err
        return Bounds(begin[self._place], end[self._place])

    async def rows(self, first: int, end: int) -> AsyncIterator[Chunk]:
        """Chunks from `first` up to the position `end`. Raises `TaintedError` on silence."""
        consumer, place = self._consumer, self._place
        assert consumer is not None
        consumer.seek(place, first)
        patience_s = 3 * self._settings.request_timeout_ms / 1000
        heard = time.monotonic()
        while (position := await consumer.position(place)) < end:
            try:
                batches = await fetch(consumer, [place], timeout_s=0.5)
            except KafkaError as err:
                raise TaintedError(f"{place.topic}-{place.partition}: {err!r}") from err
            for batch in batches:
                known = int(np.searchsorted(batch.offsets, end))
                if known:
                    keys = cast("Sequence[bytes]", batch.keys)  # a compacted topic takes no record without one
                    yield Chunk(batch.offsets[:known], keys[:known], batch.values[:known])
            if await consumer.position(place) > position:
                heard = time.monotonic()
            elif time.monotonic() - heard > patience_s:
                raise TaintedError(f"{place.topic}-{place.partition}: nothing to read at {position}, end is {end}")
