"""Lines into batches into Kafka, with every batch's fate known."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

ACK_DEADLINE_S = 20.0
STOP_DEADLINE_S = 2.0
NAP_S = 0.005  # shorter waits for the rate aren't worth a timer


@dataclass(frozen=True, slots=True)
class Failure:
    """The batch of lines `first` to `last` wasn't acknowledged."""

    first: int
    last: int
    error: BaseException


@dataclass(slots=True)
class Sent:
    """What was sent so far; `acknowledged` counts records Kafka has confirmed."""

    records: int = 0
    acknowledged: int = 0
    unkeyed: int = 0
    failure: Failure | None = None


@dataclass(slots=True)
class _Open:
    """A batch being filled for one partition."""

    builder: Any
    first: int
    last: int
    count: int = 0


@dataclass(slots=True)
class Sender:
    """Sends lines in batches, spread over the partitions or by key; one future for a batch, not for a record."""

    producer: AIOKafkaProducer
    topic: str
    partitions: int
    key_field: str | None = None
    sent: Sent = field(default_factory=Sent)
    _open: dict[int, _Open] = field(default_factory=dict)
    _flying: set[asyncio.Future[Any]] = field(default_factory=set)
    _turns: Any = None

    def __post_init__(self) -> None:
        self._turns = itertools.cycle(range(self.partitions))

    async def add(self, number: int, line: bytes) -> None:
        """Take one line. Sends the batch it doesn't fit into any more."""
        key = None
        if self.key_field is not None:
            key = key_of(line, self.key_field)
            self.sent.unkeyed += key is None
        partition = next(self._turns) if key is None else _partition_of(key, self.partitions)
        if not self._append(partition, number, key, line):
            await self._send(partition)
            fits = self._append(partition, number, key, line)
            assert fits, "an empty batch takes any record"
        self.sent.records += 1

    def _append(self, partition: int, number: int, key: bytes | None, line: bytes) -> bool:
        batch = self._open.get(partition)
        if batch is None:
            batch = self._open[partition] = _Open(self.producer.create_batch(), number, number)
        if batch.builder.append(timestamp=None, key=key, value=line) is None:
            return False
        batch.last = number
        batch.count += 1
        return True

    async def send_open(self) -> None:
        """Send every batch that has something in it."""
        for partition in list(self._open):
            await self._send(partition)

    async def finish(self) -> None:
        """Send what is left and wait until all is acknowledged, failed, or the deadline is over."""
        await self.send_open()
        if self._flying and self.sent.failure is None:
            _, late = await asyncio.wait(self._flying, timeout=ACK_DEADLINE_S)
            if late:
                self.sent.failure = Failure(0, 0, TimeoutError())

    async def _send(self, partition: int) -> None:
        batch = self._open.pop(partition)
        if self.sent.failure is not None:
            return
        batch.builder.close()
        try:
            # The client retries an idempotent batch for ever: the deadline is ours.
            async with asyncio.timeout(ACK_DEADLINE_S):
                future = await self.producer.send_batch(batch.builder, self.topic, partition=partition)
        except (KafkaError, TimeoutError, OSError) as err:
            self.sent.failure = Failure(batch.first, batch.last, err)
            return
        self._flying.add(future)
        future.add_done_callback(lambda done: self._settle(done, batch))

    def _settle(self, future: asyncio.Future[Any], batch: _Open) -> None:
        self._flying.discard(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            self.sent.acknowledged += batch.count
        elif self.sent.failure is None:
            self.sent.failure = Failure(batch.first, batch.last, error)


async def stop(producer: AIOKafkaProducer) -> None:
    """Close the producer. Not its own stop alone: that waits for ever for a broker that is gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_DEADLINE_S):
            await producer.stop()


@lru_cache(100_000)
def _partition_of(key: bytes, partitions: int) -> int:
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def key_of(line: bytes, field: str) -> bytes | None:
    """The Kafka key from a dotted JSON field: text as it is, anything else as JSON; None if there is none."""
    try:
        here = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for name in field.split("."):
        if not isinstance(here, dict) or here.get(name) is None:
            return None
        here = here[name]
    return here.encode() if isinstance(here, str) else msgspec.json.encode(here)


class Pace:
    """Spreads records evenly over time."""

    def __init__(self, rate: float | None) -> None:
        self._gap_s = 0.0 if rate is None else 1 / rate
        self._due = time.monotonic()

    def wait_s(self) -> float:
        """How long the next record has to wait; 0 for waits too short to bother."""
        if not self._gap_s:
            return 0.0
        wait_s = self._due - time.monotonic()
        self._due += self._gap_s
        return wait_s if wait_s > NAP_S else 0.0
