"""Of several brokers one may be dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from app.transport.admin import AnyBroker


class Client:
    """Three brokers as the client knows them; those in `dead` don't answer. The controller is one of them."""

    _request_timeout_ms = 50
    _retry_backoff = 0.01

    def __init__(self, dead: set[int]) -> None:
        self.dead = dead
        self.asked: list[int] = []
        brokers = [SimpleNamespace(nodeId=node) for node in (1, 2, 3)]
        self.cluster = SimpleNamespace(brokers=lambda: brokers, controller=brokers[0])

    async def send(self, node: int, request: Any) -> str:
        self.asked.append(node)
        if node in self.dead:
            raise NodeNotReadyError
        return f"{node} answers {request}"

    async def ready(self, node: int) -> bool:
        return node not in self.dead

    async def force_metadata_update(self) -> None:
        self.cluster.controller = SimpleNamespace(nodeId=2)

    async def close(self) -> None:
        """There is no connection."""


@pytest.fixture
def admin() -> Callable[[set[int]], Any]:
    def make(dead: set[int]) -> Any:
        made = AnyBroker.__new__(AnyBroker)
        made._client = Client(dead)
        return made

    return make


@pytest.mark.parametrize("dead", [set(), {1}, {1, 3}, {2, 3}])
async def test_whoever_lives_answers(admin: Callable[[set[int]], Any], dead: set[int]) -> None:
    for _ in range(10):
        answer = await admin(dead)._send_request("a question")
        assert int(answer[0]) not in dead


async def test_where_nobody_lives_the_last_ones_error_is_raised(admin: Callable[[set[int]], Any]) -> None:
    one = admin({1, 2, 3})
    with pytest.raises(NodeNotReadyError):
        await one._send_request("a question")
    assert sorted(one._client.asked) == [1, 2, 3]


async def test_a_question_to_one_broker_is_asked_of_no_other(admin: Callable[[set[int]], Any]) -> None:
    one = admin({2})
    with pytest.raises(NodeNotReadyError):
        await one._send_request("a question", 2)
    assert one._client.asked == [2]


async def test_a_controller_that_died_is_looked_up_again(admin: Callable[[set[int]], Any]) -> None:
    async with asyncio.timeout(30):
        assert await admin({1})._send_to_controller("a wish") == "2 answers a wish"
