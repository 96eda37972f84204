"""Partitions that come while a worker runs: its topics are grown once, and it answers for all that were given out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.errors import InvalidPartitionsError

from agents.source import Place
from app.transport.membership import FaustMembership
from app.transport.service import RecountApp
from app.transport.topics import Topics, _grow
from domain.errors import SinkUnavailableError


@dataclass
class Broker:
    """What it lists, and how often it was asked to make our topics like that."""

    listed: dict[str, int]
    asked: int = 0

    async def prepare(self) -> dict[str, int]:
        self.asked += 1
        await asyncio.sleep(0)
        return dict(self.listed)


async def topics_on(broker: Broker) -> Topics:
    topics = Topics(broker.prepare)
    await topics.prepare()
    return topics


async def test_a_partition_known_at_the_start_asks_nobody() -> None:
    broker = Broker({"clicks": 2})
    topics = await topics_on(broker)
    await topics.cover(Place("clicks", 1))
    assert broker.asked == 1


async def test_new_partitions_of_one_assignment_grow_the_topics_once() -> None:
    broker = Broker({"clicks": 2, "taps": 1})
    topics = await topics_on(broker)
    broker.listed["clicks"] = 5
    await asyncio.gather(*(topics.cover(Place("clicks", partition)) for partition in range(5)))
    assert broker.asked == 2
    assert topics.counts == {"clicks": 5, "taps": 1}


async def test_a_broker_that_has_not_heard_of_a_new_partition_is_asked_again_later() -> None:
    broker = Broker({"clicks": 2})
    topics = await topics_on(broker)
    with pytest.raises(SinkUnavailableError, match="doesn't list clicks-2 yet"):
        await topics.cover(Place("clicks", 2))
    broker.listed["clicks"] = 3
    await topics.cover(Place("clicks", 2))


class Outrun:
    """An admin client whose broker has just done for another worker what it is asked for."""

    async def create_partitions(self, wanted: Mapping[str, NewPartitions]) -> None:
        raise InvalidPartitionsError("Topic already has 3 partition(s).")

    async def describe_topics(self) -> list[dict[str, object]]:
        return [{"topic": "app-clicks-changelog", "partitions": [{"replicas": [1], "isr": [1]}] * 3}]


async def test_of_two_workers_that_grow_a_topic_at_once_neither_fails() -> None:
    known = await _grow(Outrun(), {"app-clicks-changelog": 3})
    assert known["app-clicks-changelog"].partitions == 3


@dataclass
class App:
    given: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def membership(self) -> dict[str, dict[str, list[int]]]:
        return self.given


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({}, 2),
        ({"http://a": {"clicks": [0]}, "http://b": {"clicks": [1], "taps": [7]}}, 2),
        ({"http://a": {"clicks": [0, 2]}, "http://b": {"clicks": [1, 3]}}, 4),
    ],
)
def test_a_worker_answers_for_partitions_that_others_were_given_since_it_started(
    given: dict[str, dict[str, list[int]]], count: int
) -> None:
    membership = FaustMembership({"clicks": 2})
    assert membership.partition_count("clicks") == 2
    membership.app = cast("RecountApp", App(given))
    assert membership.partition_count("clicks") == count
    assert membership.partition_count("unknown") is None
