"""Every private name of Faust and aiokafka that is leaned on: a new version that lacks one fails here, by name."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from faust.app.base import App, BootStrategy
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

from app.transport.consumer import BatchConsumer, BatchThread, BatchTransport
from app.transport.group import Assignor, GroupMember
from app.transport.recovery import RestoreRecovery, RestoreTables
from app.transport.service import RecountApp, ServiceSettings
from tests import kafka

OVERRIDDEN = [
    (BatchThread, driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
    (BatchThread, driver.AIOKafkaConsumerThread, "_fetch_records"),
    (BatchThread, driver.AIOKafkaConsumerThread, "on_start"),
    (GroupMember, GroupCoordinator, "_send_req"),
    (GroupMember, GroupCoordinator, "_push_error_to_user"),
    (GroupMember, GroupCoordinator, "_on_join_complete"),
    (Assignor, PartitionAssignor, "on_assignment"),
    (BatchConsumer, driver.Consumer, "_new_consumer_thread"),
    (BatchConsumer, driver.Consumer, "getmany"),
    (BatchConsumer, driver.Consumer, "perform_seek"),
    (BatchConsumer, driver.Consumer, "resume_partitions"),
    (RestoreRecovery, Recovery, "_resume_streams"),
    (RestoreRecovery, Recovery, "on_rebalance"),
    (RecountApp, App, "_new_transport"),
    (RecountApp, App, "_create_directories"),
]

USED = [
    (fetcher.FetchResult, "check_assignment"),
    (fetcher.FetchResult, "_update_position"),
    (fetcher.PartitionRecords, "_consume_aborted_up_to"),
    (fetcher.PartitionRecords, "_contains_abort_marker"),
    (fetcher.Fetcher, "_create_fetch_waiter"),
    (fetcher.Fetcher, "_notify"),
    (fetcher, "READ_COMMITTED"),
    (MemoryRecords, "has_next"),
    (MemoryRecords, "next_batch"),
    (MemoryRecords, "size_in_bytes"),
    *[
        (DefaultRecordBatch, name)
        for name in (
            "base_offset",
            "next_offset",
            "validate_crc",
            "producer_id",
            "is_control_batch",
            "is_transactional",
        )
    ],
    (GroupCoordinator, "ensure_coordinator_known"),
    (GroupCoordinator, "coordinator_dead"),
    (GroupCoordinator, "request_rejoin"),
    (GroupCoordinator, "_lookup_assignor"),
    (GroupCoordinator, "_get_metadata_snapshot"),
    (PartitionAssignor, "_url"),
    (ClientMetadata, "loads"),
    (driver.AIOKafkaConsumerThread, "call_thread"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.Consumer, "_wait_next_records"),
    (driver.Consumer, "seek_wait"),
    (driver.Consumer, "pause_partitions"),
    (driver.Consumer, "resume_partitions"),
    (driver.Consumer, "assignment"),
    (driver.Consumer, "highwater"),
    (driver.Transport, "Consumer"),
    (BootStrategy, "enable_web"),
    (Recovery, "_wait"),
    (TableManager, "recovery"),
]


@pytest.mark.parametrize(("ours", "theirs", "name"), OVERRIDDEN, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_overridden_is_there_and_takes_the_same_arguments(ours: type, theirs: type, name: str) -> None:
    assert hasattr(theirs, name), f"{theirs.__qualname__}.{name} is gone: nothing calls ours any more"
    wanted = list(inspect.signature(getattr(theirs, name)).parameters)
    assert list(inspect.signature(getattr(ours, name)).parameters) == wanted


@pytest.mark.parametrize(("owner", "name"), USED, ids=lambda one: getattr(one, "__name__", one))
def test_what_is_used_is_there(owner: Any, name: str) -> None:
    assert hasattr(owner, name), f"{owner.__name__}.{name} is gone"


def _lacking(owner: object, *names: str) -> list[str]:
    return [f"{type(owner).__name__}.{name}" for name in names if not hasattr(owner, name)]


async def test_a_consumers_attributes(kafka_bootstrap: str, make_topic: kafka.MakeTopic) -> None:
    place = TopicPartition(make_topic(), 0)
    async with kafka.producer(kafka_bootstrap) as producer:
        await producer.send_and_wait(place.topic, b"x", partition=0)
    async with kafka.reader(kafka_bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        assert not _lacking(consumer, "_fetcher", "_closed", "_auto_offset_reset", "_isolation_level")
        fetching = consumer._fetcher
        assert not _lacking(fetching, "_records", "_closed", "_subscriptions", "_wait_consume_future")
        assert not _lacking(
            fetching._subscriptions, "fetch_context", "reassignment_in_progress", "wait_for_assignment", "is_assigned"
        )
        assert not fetching._records
        await fetching._create_fetch_waiter()
        result = fetching._records[place]
        assert type(result) is fetcher.FetchResult
        assert not _lacking(
            result._partition_records,
            "_records",
            "_check_crcs",
            "_isolation_level",
            "_aborted_producers",
            "next_fetch_offset",
        )
        assert result._partition_records._isolation_level == fetcher.READ_COMMITTED


def test_settings_given_to_a_consumer_before_its_start_count(kafka_bootstrap: str) -> None:
    """`BatchThread` sets both between construction and start: the fetcher must be made at the start."""
    source = inspect.getsource(AIOKafkaConsumer.start)
    for name in ("_auto_offset_reset", "_isolation_level"):
        assert f"self.{name}" in source, f"AIOKafkaConsumer.start no longer reads {name}"


async def test_a_coordinator_can_be_made_ours(kafka_bootstrap: str) -> None:
    async with kafka.reader(kafka_bootstrap, group_id=kafka.unique("group"), group_instance_id="i1") as consumer:
        coordinator = consumer._coordinator
        assert type(coordinator) is GroupCoordinator
        GroupMember.take_over(coordinator, print)
        assert not _lacking(
            coordinator,
            "member_id",
            "generation",
            "group_id",
            "_group_instance_id",
            "_subscription",
            "_cluster",
            "_group_subscription",
            "_metadata_snapshot",
            "_coordination_task",
        )


async def test_a_producers_attributes(kafka_bootstrap: str) -> None:
    async with kafka.producer(kafka_bootstrap, transactional_id=kafka.unique("names")) as producer:
        assert not _lacking(producer, "_closed", "_sender", "client")
        assert not _lacking(producer._sender, "sender_task")
        assert producer._sender.sender_task is not None


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[RecountApp]:
    def assign(_places: object) -> None: ...

    async def revoke() -> None: ...

    settings = ServiceSettings("a", "127.0.0.1:1", tmp_path, "http://127.0.0.1:1", 6.0, "i1")
    app = RecountApp(settings, ["t"], dict, assign, revoke, print)
    yield app
    app.consumer._thread.thread_loop.close()  # made with the consumer; nothing ran in it


async def test_the_app_is_made_of_our_parts(app: RecountApp) -> None:
    assert isinstance(app.transport, BatchTransport)
    assert isinstance(app.consumer, BatchConsumer)
    assert isinstance(app.consumer._thread, BatchThread)
    assert isinstance(app.assignor, Assignor)
    assert app.conf.consumer_group_instance_id == "i1"
    assert isinstance(app.tables, RestoreTables)
    assert isinstance(app.tables.recovery, RestoreRecovery)
    assert not app.boot_strategy.enable_web


async def test_the_apps_attributes(app: RecountApp) -> None:
    assert not _lacking(
        app, "consumer_generation_id", "rebalancing", "rebalancing_count", "_crashed", "crash_reason", "router"
    )
    assert not _lacking(app.consumer, "_read_offset", "flow_active", "should_stop", "_get_active_partitions", "wait")
    assert not _lacking(app.tables.recovery, "completed")
    external: Callable[[], Any] = app.router.external_topics_metadata
    assert external() == {}


def test_a_producer_takes_the_settings_of_the_changelog() -> None:
    known = inspect.signature(AIOKafkaProducer.__init__).parameters
    assert {"transactional_id", "transaction_timeout_ms", "max_batch_size", "max_request_size"} <= set(known)
