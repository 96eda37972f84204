"""Three brokers: who leads, who coordinates, who is in sync; and how to disturb that."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest

from lab import Kafka
from lab.process import Server
from tests import kafka
from tests.waiting import wait_for

BROKERS = 3
# Leaders go back to the first of a partition's replicas within a second, so changing their order moves them.
CONFIG = {
    "leader.imbalance.check.interval.seconds": "1",
    "leader.imbalance.per.broker.percentage": "0",
}
SET_FOR_TOPIC = 1  # where a setting comes from
DEADLINE_S = 120.0
ASK_S = 5.0
Found = TypeVar("Found")


@dataclass(frozen=True)
class Cluster:
    kafka: Kafka

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap_servers

    def broker(self, node: int) -> Server:
        return self.kafka.brokers[node - 1]

    def partitions(self, topics: Collection[str] = ()) -> dict[tuple[str, int], dict[str, Any]]:
        """What the brokers say of each partition of these topics, or of all; empty when they don't."""

        async def ask() -> dict[tuple[str, int], dict[str, Any]]:
            async with kafka.admin(self.bootstrap) as client:
                found = await client.describe_topics()
            return {
                (topic["topic"], one["partition"]): one
                for topic in found
                for one in topic["partitions"]
                if not topics or topic["topic"] in topics
            }

        return self._ask(ask()) or {}

    def leaders(self, topic: str) -> dict[int, int]:
        """Node by partition; -1 where there is none."""
        return {partition: one["leader"] for (_, partition), one in self.partitions([topic]).items()}

    def wait_leads_nothing(self, node: int, topics: Collection[str]) -> None:
        """Until others lead all partitions of these topics."""

        def gone() -> bool:
            found = self.partitions(topics)
            return bool(found) and all(one["leader"] not in {node, -1} for one in found.values())

        wait_for(f"others than broker {node} to lead", gone, DEADLINE_S)

    def wait_in_sync(self) -> None:
        """Until every copy of every partition is as far as its leader, and leads where it is the first one."""

        def all_there() -> bool:
            found = self.partitions()
            return bool(found) and all(
                sorted(one["isr"]) == sorted(one["replicas"]) and one["leader"] == one["replicas"][0]
                for one in found.values()
            )

        wait_for("all copies to be in sync", all_there, DEADLINE_S)

    def transaction_coordinator(self, transactional_id: str) -> int:
        return self._coordinator(transactional_id, 1)

    def group_coordinator(self, group: str) -> int:
        return self._coordinator(group, 0)

    def _coordinator(self, key: str, kind: int) -> int:
        async def ask() -> int:
            async with kafka.admin(self.bootstrap) as client:
                return int(await client.find_coordinator(key, kind))

        return wait_for(f"the coordinator of {key}", lambda: self._ask(ask()), DEADLINE_S)

    def _ask(self, question: Coroutine[Any, Any, Found]) -> Found | None:
        """None when brokers don't answer: one may be dead or stopped."""
        try:
            return kafka.run_apart(asyncio.wait_for(question, ASK_S))
        except (KafkaError, TimeoutError):
            return None

    def place(self, topic: str, nodes: list[int]) -> None:
        """Put all partitions of a topic on these nodes, the first one leads; returns when all of it is there."""
        places = [(partition, nodes, {}) for partition in self.leaders(topic)]  # type: ignore[var-annotated]

        async def ask() -> Any:
            async with kafka.admin(self.bootstrap) as client:
                request = AlterPartitionReassignmentsRequest(30_000, [(topic, places, {})], {})
                return await client._send_to_controller(request)

        answer = kafka.run_apart(ask())
        assert not answer.error_code, answer

        def placed() -> bool:
            found = self.partitions([topic])
            return bool(found) and all(
                one["replicas"] == nodes and one["leader"] == nodes[0] and sorted(one["isr"]) == sorted(nodes)
                for one in found.values()
            )

        wait_for(f"{topic} to be at {nodes}", placed, DEADLINE_S)

    @contextmanager
    def without(self, *nodes: int) -> Iterator[None]:
        """Kill brokers (SIGKILL); afterwards they are back and in sync."""
        for node in nodes:
            self.broker(node).kill()
        yield
        for node in nodes:
            self.broker(node).start(wait=False)
        for node in nodes:
            self.broker(node).wait_ready()
        self.wait_in_sync()

    @contextmanager
    def paused(self, node: int) -> Iterator[None]:
        """Stop a broker (SIGSTOP); afterwards it goes on and is in sync."""
        self.broker(node).pause()
        yield
        self.broker(node).resume()
        self.wait_in_sync()

    def heal(self) -> None:
        """Whatever a test left: all brokers serve."""
        for broker in self.kafka.brokers:
            broker.resume() if broker.running else broker.start()


def change_topic(bootstrap: str, topic: str, **changes: str | None) -> None:
    """As a stranger changes its settings; underscores stand for dots, None takes a setting away."""

    async def alter() -> None:
        async with kafka.admin(bootstrap) as client:
            (found,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            ((_, _, _, _, entries),) = found.resources
            own = {name: value for name, value, _, source, *_ in entries if source == SET_FOR_TOPIC}
            own |= {name.replace("_", "."): value for name, value in changes.items()}
            wanted = {name: value for name, value in own.items() if value is not None}
            (answer,) = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
            ((code, message, *_),) = answer.resources
            assert not code, message

    kafka.run_apart(alter())
