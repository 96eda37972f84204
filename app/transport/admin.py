"""Kafka as the commands see it: who answers, which topics there are, how they are set."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
    UnknownTopicOrPartitionError,
    for_code,
)

from domain.errors import DependencyError

POLL_S = 0.1
UNREACHED = (NodeNotReadyError, KafkaConnectionError, RequestTimedOutError, TimeoutError)


@dataclass(frozen=True, slots=True)
class TopicInfo:
    name: str
    partitions: int
    replication: int
    in_sync: int  # copies of the partition that has the fewest


class AnyBroker(AIOKafkaAdminClient):  # type: ignore[misc] # the client has no types
    """The client asks a broker of its choice, also one that died a moment ago: this one asks the others then.

    A controller that can't be reached is looked up again and asked for ever: callers have a deadline.
    """

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        nodes = [node_id] if node_id is not None else [one.nodeId for one in self._client.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes[:-1]:
            with contextlib.suppress(*UNREACHED):
                return await super()._send_request(request, node)
        return await super()._send_request(request, nodes[-1] if nodes else None)

    async def _send_to_controller(self, request: Any) -> Any:
        while True:
            try:
                return await super()._send_to_controller(request)
            except UNREACHED:
                await self._client.force_metadata_update()
                await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def admin_client(bootstrap_servers: str, deadline_s: float, setting: str) -> AsyncIterator[Any]:
    """A connected admin client. Raises `DependencyError` if Kafka doesn't answer, also to later calls."""
    # Less than the deadline: of several brokers the first one asked may hang.
    timeout_ms = int(deadline_s * 1000 / 3)
    admin = AnyBroker(bootstrap_servers=bootstrap_servers, request_timeout_ms=timeout_ms)
    server = f"Kafka at {bootstrap_servers}"
    fix = f"start it, or correct {setting}"
    try:
        async with asyncio.timeout(deadline_s):
            await admin.start()
            await _settled(admin)
            yield admin
    except TimeoutError as err:
        raise DependencyError(server, f"no answer within {deadline_s:g} s", fix) from err
    except (KafkaError, OSError) as err:
        reason = "can't be reached" if isinstance(err, KafkaConnectionError) else str(err) or type(err).__name__
        raise DependencyError(server, reason, fix) from err
    finally:
        await admin.close()


async def _settled(admin: Any) -> None:
    """Wait for metadata with a broker and a controller: while they change, the client asks nobody and fails."""
    client = admin._client
    while client.cluster.controller is None or not client.cluster.brokers():
        await client.force_metadata_update()
        await asyncio.sleep(POLL_S)


async def topics_of(admin: Any) -> dict[str, TopicInfo]:
    """All topics. Asking for one by name could make the broker create it."""
    found = await admin.describe_topics()
    return {
        topic["topic"]: TopicInfo(
            topic["topic"],
            len(topic["partitions"]),
            min((len(partition["replicas"]) for partition in topic["partitions"]), default=0),
            min((len(partition["isr"]) for partition in topic["partitions"]), default=0),
        )
        for topic in found
    }


async def topic_settings(admin: Any, names: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """The settings in force of each topic."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    settings: dict[str, dict[str, str | None]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _kind, name, entries in response.resources:
            if code:
                raise KafkaError(f"settings of {name}: {message or code}")
            settings[name] = {entry[0]: entry[1] for entry in entries}
    return settings


def create_topic_command(bootstrap_servers: str, topic: str) -> str:
    return f"kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {topic} --partitions 4"


def alter_topic_command(bootstrap_servers: str, topic: str, settings: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {bootstrap_servers} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {settings}"
    )


def quiet_client_log() -> None:
    """Keep the client's own complaints off the terminal: each command says what went wrong."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


async def delete_topic(admin: Any, name: str) -> None:
    """Returns when the brokers no longer list it; nothing if there is none. Raises `KafkaError`."""
    answer = await admin.delete_topics([name])
    for topic, code, *rest in answer.topic_error_codes:
        if code and code != UnknownTopicOrPartitionError.errno:
            raise for_code(code)(f"deleting {topic}: {rest}")
    while name in await topics_of(admin):  # noqa: ASYNC110 - brokers tell nobody
        await asyncio.sleep(POLL_S)
