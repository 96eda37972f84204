"""A stranger's view of Kafka: what tests make, send and read without the product's own code."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.records_to_delete import RecordsToDelete

from tests.waiting import wait_until

DEADLINE_S = 60.0
Result = TypeVar("Result")


@dataclass(frozen=True)
class Record:
    """What counts of a Kafka record; headers aren't archived."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class MakeTopic(Protocol):
    def __call__(self, partitions: int = 1, name: str = "", **configs: str) -> str:
        """Make a topic and return its name; underscores in `configs` stand for dots."""


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run in a loop and thread of its own: for callers inside a running loop too."""
    done: list[Result] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(asyncio.run(work))
        except BaseException as err:  # noqa: BLE001 - raised again in the caller's thread
            failed.append(err)

    thread = threading.Thread(target=run, name="run-apart")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


@asynccontextmanager
async def admin(bootstrap: str) -> AsyncIterator[Any]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def create_topic(
    bootstrap: str, name: str, partitions: int, configs: Mapping[str, str], replication: int = 1
) -> None:
    async with admin(bootstrap) as client:
        answer = await client.create_topics([NewTopic(name, partitions, replication, topic_configs=dict(configs))])
        for topic, code, *rest in answer.topic_errors:
            assert code == 0, f"creating {topic}: {code} {rest}"

        async def listed() -> bool:
            return any(one["topic"] == name for one in await client.describe_topics())

        await wait_until(f"the broker to list {name}", listed)


async def grow_topic(bootstrap: str, name: str, partitions: int) -> None:
    """To that many in all; returns when the brokers list them."""
    async with admin(bootstrap) as client:
        await client.create_partitions({name: NewPartitions(partitions)})

        async def grown() -> bool:
            (found,) = await client.describe_topics([name])
            return len(found["partitions"]) == partitions

        await wait_until(f"topic {name} to have {partitions} partitions", grown)


async def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic; returns when the brokers no longer list it."""
    async with admin(bootstrap) as client:
        await client.delete_topics([name])

        async def gone() -> bool:
            return name not in await client.list_topics()

        await wait_until(f"topic {name} to be gone", gone)


async def delete_records(bootstrap: str, topic: str, before: Mapping[int, int]) -> None:
    """Move the start of a log, as retention does."""
    async with admin(bootstrap) as client:
        await client.delete_records(
            {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in before.items()}
        )


async def group_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    async with admin(bootstrap) as client:
        found = await client.list_consumer_group_offsets(group)
    return {(place.topic, place.partition): committed.offset for place, committed in found.items()}


@asynccontextmanager
async def producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    sender = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    try:
        await sender.start()
        yield sender
    finally:
        await sender.stop()


@asynccontextmanager
async def reader(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A committed reader outside of any group."""
    options = {"isolation_level": "read_committed", "max_partition_fetch_bytes": 4 << 20} | options
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="none", enable_auto_commit=False, **options
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def ends(bootstrap: str, topic: str, **options: Any) -> dict[int, int]:
    """Where each partition's committed log ends."""
    places = await _places(bootstrap, topic)
    async with reader(bootstrap, **options) as consumer:
        return {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}


async def read_topic(bootstrap: str, topic: str, settled: bool = False, **options: Any) -> dict[int, list[Record]]:
    """Every committed record of each partition, up to the ends of now.

    A commit is answered before its markers are written, and until then a committed reader sees
    nothing of it. settled=True waits for every transaction that is open now.
    """
    found: dict[int, list[Record]] = {}
    places = await _places(bootstrap, topic)
    isolation = "read_uncommitted" if settled else "read_committed"
    last = await ends(bootstrap, topic, isolation_level=isolation)
    async with reader(bootstrap, **options) as consumer, asyncio.timeout(DEADLINE_S):
        consumer.assign(places)
        for place, first in (await consumer.beginning_offsets(places)).items():
            consumer.seek(place, first)
            found[place.partition] = []
        while [place for place in places if await consumer.position(place) < last[place.partition]]:
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                found[place.partition] += [Record(r.offset, r.timestamp, r.key, r.value) for r in records]
    return found


async def _places(bootstrap: str, topic: str) -> list[TopicPartition]:
    async with admin(bootstrap) as client:
        (found,) = await client.describe_topics([topic])
    places = sorted(TopicPartition(topic, one["partition"]) for one in found["partitions"])
    assert places, f"topic {topic} has no partitions"
    return places
