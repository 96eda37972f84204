from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import NewTopic

from lab import Kafka, Lab, LabError
from lab.errors import NotReadyError
from lab.kafka import MAX_MESSAGE_BYTES, probe_broker
from tests.kafka import admin, create_topic, producer, read_topic, run_apart, unique

TEN_MB = 10 * 1024 * 1024


def make_topic(kafka: Kafka) -> str:
    name = unique("lab")
    run_apart(create_topic(kafka.bootstrap_servers, name, 1, {}))
    return name


async def send(kafka: Kafka, topic: str, *values: bytes) -> None:
    async with producer(kafka.bootstrap_servers, acks="all", max_request_size=MAX_MESSAGE_BYTES) as sender:
        for value in values:
            await sender.send_and_wait(topic, value)


async def values_of(kafka: Kafka, topic: str) -> list[bytes | None]:
    found = await read_topic(kafka.bootstrap_servers, topic, max_partition_fetch_bytes=MAX_MESSAGE_BYTES)
    return [record.value for record in found[0]]


async def test_records_sent_are_read_back(own_kafka: Kafka) -> None:
    topic = make_topic(own_kafka)
    await send(own_kafka, topic, b"a", b"b")
    assert await values_of(own_kafka, topic) == [b"a", b"b"]


async def test_a_record_of_ten_megabytes_passes(own_kafka: Kafka) -> None:
    topic = make_topic(own_kafka)
    await send(own_kafka, topic, b"x" * TEN_MB)
    (value,) = await values_of(own_kafka, topic)
    assert value is not None
    assert len(value) == TEN_MB


async def test_a_killed_broker_restarts_on_its_port_with_its_data(own_kafka: Kafka) -> None:
    topic, address = make_topic(own_kafka), own_kafka.bootstrap_servers
    await send(own_kafka, topic, b"before")
    (broker,) = own_kafka.brokers
    old_pid = broker.pid
    broker.kill()
    assert not broker.running
    with pytest.raises(NotReadyError):
        probe_broker(address, 1)
    await asyncio.to_thread(broker.start)
    assert broker.pid != old_pid
    assert own_kafka.bootstrap_servers == address
    await send(own_kafka, topic, b"after")
    assert await values_of(own_kafka, topic) == [b"before", b"after"]


async def test_a_paused_broker_answers_nothing_until_it_is_resumed(own_kafka: Kafka) -> None:
    topic = make_topic(own_kafka)
    (broker,) = own_kafka.brokers
    async with producer(own_kafka.bootstrap_servers) as sender:
        broker.pause()
        assert broker.running
        sending = asyncio.create_task(sender.send_and_wait(topic, b"a"))
        answered, _ = await asyncio.wait([sending], timeout=1)
        assert not answered
        broker.resume()
        await sending
    assert await values_of(own_kafka, topic) == [b"a"]


def test_a_lab_has_one_kafka_of_one_size(own_lab: Lab, own_kafka: Kafka) -> None:
    assert own_lab.kafka(brokers=1) is own_kafka
    with pytest.raises(LabError, match=r"already runs with 1 broker\(s\), not 3"):
        own_lab.kafka(brokers=3)


def test_three_brokers_take_writes_while_one_is_dead() -> None:
    with Lab() as lab:
        kafka = lab.kafka(brokers=3)
        topic = unique("lab")

        async def create() -> None:
            async with admin(kafka.bootstrap_servers) as client:
                await client.create_topics([NewTopic(topic, 1, 3)])

        run_apart(create())
        run_apart(send(kafka, topic, b"three"))
        kafka.brokers[0].kill()
        run_apart(asyncio.wait_for(send(kafka, topic, b"two"), 30))
        kafka.brokers[0].start()
        assert run_apart(values_of(kafka, topic)) == [b"three", b"two"]
