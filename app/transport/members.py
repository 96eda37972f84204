"""The consumer group as a command sees it: who is in it, and the offsets it keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalGenerationError, KafkaError, UnknownMemberIdError
from aiokafka.structs import OffsetAndMetadata

from agents.source import Place
from domain.errors import DependencyError, RefusedError

CLIENT = "recount-"  # followed by the instance


@dataclass(frozen=True, slots=True)
class Member:
    client: str
    host: str

    def __str__(self) -> str:
        who = self.client.removeprefix(CLIENT)
        return f"{'instance' if who != self.client else 'client'} {who} at {self.host.lstrip('/')}"


async def members_of(admin: Any, group: str) -> list[Member]:
    """Empty for a group nobody is in, and for one that doesn't exist."""
    (answer,) = await admin.describe_consumer_groups([group])
    ((code, _name, _state, _type, _protocol, members, *_),) = answer.groups
    if code:
        raise KafkaError(f"group {group}: error {code}")
    return [Member(client, host) for _member, client, host, *_ in members]


def refuse_members(group: str, members: Collection[Member]) -> None:
    """Raises `RefusedError` unless all workers have stopped."""
    if members:
        raise RefusedError(
            f"consumer group {group}",
            f"it has members: {', '.join(sorted(map(str, members)))}",
            "Stop every worker first; a stopped one leaves the group after kafka.session_timeout",
        )


async def offsets_of(admin: Any, group: str) -> dict[Place, int]:
    found = await admin.list_consumer_group_offsets(group)
    return {Place(at.topic, at.partition): one.offset for at, one in found.items() if one.offset >= 0}


async def forget_offsets(bootstrap_servers: str, group: str, places: Iterable[Place]) -> None:
    """Set the group's offsets to 0, which is what having read nothing looks like.

    Raises `RefusedError` if somebody has joined the group, `DependencyError`.
    """
    wanted = {TopicPartition(*place): OffsetAndMetadata(0, "") for place in places}
    if not wanted:
        return
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(list(wanted))
        await consumer.commit(wanted)
    except (IllegalGenerationError, UnknownMemberIdError) as err:
        raise RefusedError(
            f"consumer group {group}", "a worker joined it meanwhile", "Stop every worker, then run this again"
        ) from err
    except (KafkaError, OSError) as err:
        raise DependencyError(
            f"Kafka at {bootstrap_servers}", repr(err), "look at the broker, then run this again"
        ) from err
    finally:
        await consumer.stop()
