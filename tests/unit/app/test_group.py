"""Our membership: what ends it is told, and what the group agreed on before a restart is looked at."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from aiokafka.protocol.group import JoinGroupRequest

from app.transport import group
from app.transport.group import FENCED_INSTANCE_ID, GroupMember, Heartbeat

URL = "http://worker-1:6066"
OTHER = "http://worker-2:6066"


@pytest.fixture
async def member() -> Any:
    """Of a group that reads one topic of two partitions; without its tasks and its client."""
    found = object.__new__(GroupMember)
    found.told = []
    found.ended = found.told.append
    found._closing = asyncio.get_running_loop().create_future()
    found._subscription = SimpleNamespace(abort_waiters=lambda _: None, subscription=SimpleNamespace(topics={"clicks"}))
    found._cluster = SimpleNamespace(partitions_for_topic={"clicks": {0, 1}}.get)
    return found


async def test_an_error_that_waits_for_a_fetch_is_told_at_once(member: Any) -> None:
    error = KafkaError("unexpected error in join group")
    member._push_error_to_user(error).close()
    assert member.told == [error]


async def test_the_death_of_the_coordination_is_told(member: Any) -> None:
    async def die() -> None:
        raise KafkaError("an assertion")

    async def go_on() -> None: ...

    for work in (go_on(), die()):
        task = asyncio.create_task(work)
        await asyncio.wait([task])
        member._coordinated(task)
    assert [str(one) for one in member.told] == ["KafkaError: an assertion"]


@pytest.mark.parametrize(
    ("url", "given", "outdated"),
    [
        (URL, {URL: {"clicks": [0]}, OTHER: {"clicks": [1]}}, False),
        (OTHER, {OTHER: {"clicks": [0, 1]}}, True),
        (URL, {URL: {"clicks": [0]}, OTHER: {}}, True),
        (URL, {}, True),
    ],
    ids=["as it is", "another address", "a partition nobody has", "nobody has any"],
)
async def test_what_was_agreed_before_a_restart_may_be_out_of_date(
    member: Any, url: str, given: dict[str, dict[str, list[int]]], *, outdated: bool
) -> None:
    agreed = SimpleNamespace(url=url, external_topic_distribution=given)
    assert member._outdated(agreed, SimpleNamespace(_url=URL)) is outdated


@pytest.mark.parametrize("answers", [True, False], ids=["at once", "never"])
async def test_a_leader_looks_for_new_partitions_before_it_gives_them_out(
    member: Any, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    monkeypatch.setattr(group, "FRESH_S", 0.1)
    look = asyncio.get_running_loop().create_future()

    def ask() -> asyncio.Future[bool]:
        if answers:
            member._cluster = SimpleNamespace(partitions_for_topic={"clicks": {0, 1, 2}}.get)
            look.set_result(True)
        return look

    async def assign(given_out: Any, response: Any) -> Any:
        return response, given_out._cluster.partitions_for_topic("clicks")

    monkeypatch.setattr(GroupCoordinator, "_perform_assignment", assign)
    member._client = SimpleNamespace(force_metadata_update=ask)
    known = {0, 1, 2} if answers else {0, 1}
    assert await member._perform_assignment("members") == ("members", known)


@pytest.mark.parametrize("code", [0, FENCED_INSTANCE_ID], ids=["forgotten", "replaced"])
async def test_a_forgotten_member_asks_before_it_joins_again(
    member: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Whoever has our name by now would lose it to us, and we to them, until both had ended."""
    sent: list[Any] = []

    async def answer(_self: Any, request: Any) -> Any:
        sent.append(request)
        return SimpleNamespace(error_code=code if isinstance(request, Heartbeat) else 0)

    monkeypatch.setattr(GroupCoordinator, "_send_req", answer)
    member.group_id, member._group_instance_id = "clicks", "w1"
    member.member_id, member._joined = "", (3, "w1-member")
    join = object.__new__(JoinGroupRequest)
    if code:
        with pytest.raises(GroupCoordinatorNotAvailableError):
            await member._send_req(join)
        assert [str(one.what) for one in member.told] == ["instance w1"]
    else:
        await member._send_req(join)
        assert member.told == []
    asked, *joined = sent
    assert asked._fields == ("clicks", 3, "w1-member", "w1")
    assert joined == ([] if code else [join])
