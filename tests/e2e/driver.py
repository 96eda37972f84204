"""The driver: sends known input at a steady rate from a thread, and knows what it sent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Protocol, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests import kafka
from tests.e2e.input import STEP_MS, Input, Sent
from tests.waiting import wait_for

TICK_S = 0.05
BACK_MS = 2_400_000  # input starts this long ago, so that its clock may run fast
DEADLINE_S = 60.0
REQUEST_TIMEOUT_MS = 5000  # a broker that is stopped must not stop the input


class Records(Protocol):
    """Where a driver's input comes from; asked from its thread."""

    def next(self) -> Sent: ...


class Driver:
    """Every tenth tick goes through a transaction, and every other one of those is aborted.

    `attempted` counts what may have been committed, per partition; `acked` what surely was.
    `patient`: what Kafka doesn't take is given up, and sending goes on as soon as it works.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        partitions: int,
        seed: int,
        rate: int = 4000,
        back_ms: int = BACK_MS,
        step_ms: int = STEP_MS,
        records: Records | None = None,
        patient: bool = False,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self.rate = rate
        self._input = records or Input(seed, partitions, int(time.time() * 1000) - back_ms, step_ms)
        self._patient = patient
        self._transactional_id = kafka.unique("driver")
        self._stop = threading.Event()
        self._hold = threading.Event()
        self._held = threading.Event()
        self._thread = threading.Thread(target=self._main, name="driver")
        self._failed: BaseException | None = None
        self.attempted: dict[int, int] = defaultdict(int)
        self.acked: dict[int, int] = defaultdict(int)

    @property
    def total(self) -> int:
        """Records surely committed."""
        return sum(self.acked.copy().values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_sent(self, count: int) -> None:
        """Until that many records in all are committed."""
        wait_for(f"{count} records sent", lambda: self._failed or self.total >= count, 120)
        self._check()

    def stop(self) -> None:
        """Send no more; everything sent is acknowledged. Safe to repeat."""
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the driver did not stop"
        self._check()

    def hold(self) -> None:
        """Send no more for now; everything sent is acknowledged, or given up."""
        self._held.clear()
        self._hold.set()
        wait_for("the driver to hold", lambda: self._failed or self._held.is_set(), DEADLINE_S)
        self._check()

    def go_on(self) -> None:
        self._hold.clear()

    def _check(self) -> None:
        if self._failed is not None:
            raise AssertionError("the driver failed") from self._failed

    def _main(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as err:  # noqa: BLE001 - raised again in the test's thread
            self._failed = err

    async def _send_all(self) -> None:
        while not self._stop.is_set():
            try:
                await self._send_on()
            except KafkaError:
                if not self._patient:
                    raise
                await asyncio.sleep(TICK_S)

    async def _send_on(self) -> None:
        options = {"max_batch_size": 1 << 20, "max_request_size": 12 << 20, "enable_idempotence": True}
        options["request_timeout_ms"] = REQUEST_TIMEOUT_MS
        async with (
            kafka.producer(self._bootstrap, **options) as plain,
            kafka.producer(self._bootstrap, transactional_id=self._transactional_id, **options) as transactional,
        ):
            due = time.monotonic()
            tick = 0
            while not self._stop.is_set():
                if self._hold.is_set():
                    self._held.set()
                else:
                    await self._tick(plain, transactional, tick)
                    tick += 1
                due = max(due + TICK_S, time.monotonic() - 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _tick(self, plain: AIOKafkaProducer, transactional: AIOKafkaProducer, tick: int) -> None:
        records = [self._input.next() for _ in range(int(self.rate * TICK_S))]
        if tick % 10 == 9:
            await self._transaction(transactional, records, commit=tick % 20 == 9)
        else:
            await self._send(plain, records)

    async def _transaction(self, producer: AIOKafkaProducer, records: list[Sent], *, commit: bool) -> None:
        await producer.begin_transaction()
        if not commit:
            await send(producer, self._topic, records)
            await producer.abort_transaction()
            return
        self._count(self.attempted, records)
        await send(producer, self._topic, records)
        await producer.commit_transaction()
        self._count(self.acked, records)

    async def _send(self, producer: AIOKafkaProducer, records: list[Sent]) -> None:
        self._count(self.attempted, records)
        await send(producer, self._topic, records)
        self._count(self.acked, records)

    def _count(self, into: dict[int, int], records: Iterable[Sent]) -> None:
        for record in records:
            into[record.partition] += 1


async def send(producer: AIOKafkaProducer, topic: str, records: Iterable[Sent]) -> None:
    """Send records in order, one Kafka batch a partition."""
    by_partition: dict[int, list[Sent]] = defaultdict(list)
    for record in records:
        by_partition[record.partition].append(record)
    acks = []
    if not by_partition.keys() <= await producer.partitions_for(topic):  # it has grown
        await producer.client.force_metadata_update()
    for partition, some in by_partition.items():
        builder = producer.create_batch()
        for one in some:
            if builder.append(timestamp=one.timestamp, key=one.key, value=one.value) is None:
                builder.close()
                acks.append(await producer.send_batch(builder, topic, partition=partition))
                builder = producer.create_batch()
                assert builder.append(timestamp=one.timestamp, key=one.key, value=one.value)
        builder.close()
        acks.append(await producer.send_batch(builder, topic, partition=partition))
    await asyncio.gather(*acks)
