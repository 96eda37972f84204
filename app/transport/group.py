"""Our membership in the consumer group: aiokafka's coordinator, with what it lacks for static members."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest
from aiokafka.protocol.types import Int16, Int32, Schema, String
from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

from agents.source import GroupAnswer
from domain.errors import RefusedError

FENCED_INSTANCE_ID = 82  # aiokafka has no name for it
FRESH_S = 2.0  # without an answer it assigns what it knows
REPLACED_S = 1.0  # between tries that lead nowhere, until the process has ended
ANSWERS = {
    0: GroupAnswer.ACCEPTED,
    errors.RebalanceInProgressError.errno: GroupAnswer.REBALANCING,
    errors.UnknownMemberIdError.errno: GroupAnswer.UNKNOWN,
    errors.IllegalGenerationError.errno: GroupAnswer.UNKNOWN,  # the group went on without us
    FENCED_INSTANCE_ID: GroupAnswer.REPLACED,
}


class HeartbeatResponse(Response):  # type: ignore[misc]
    API_KEY = 12
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class HeartbeatStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse
    SCHEMA = Schema(
        ("group", String("utf-8")),
        ("generation_id", Int32),
        ("member_id", String("utf-8")),
        ("group_instance_id", String("utf-8")),
    )


class Heartbeat(Request[HeartbeatStruct]):  # type: ignore[misc]
    """A heartbeat that names the instance: only so does the broker tell a replaced member from a forgotten one."""

    API_KEY = 12

    def __init__(self, group: str, generation: int, member: str, instance: str | None) -> None:
        self._fields = (group, generation, member, instance)

    def build(self, request_struct_class: type[HeartbeatStruct]) -> HeartbeatStruct:
        return request_struct_class(*self._fields)


def _agreed(assignment: Any) -> Any:
    """What the group agreed on, as Faust keeps it beside an assignment: our URL, and who has what."""
    return ClientMetadata.loads(zlib.decompress(assignment.user_data))


class Assignor(PartitionAssignor):  # type: ignore[misc]
    """Faust's, which dies of an assignment that names another URL: one of before a restart may."""

    _agreed_url: URL | None = None

    @property
    def _url(self) -> URL:
        return self._agreed_url or super()._url

    def on_assignment(self, assignment: Any) -> None:
        self._agreed_url = URL(_agreed(assignment).url)
        try:
            super().on_assignment(assignment)
        finally:
            self._agreed_url = None


class GroupMember(GroupCoordinator):  # type: ignore[misc]
    """`ended` is called in the consumer's thread with what this membership can't outlive."""

    ended: Callable[[BaseException], None]
    _joined: tuple[int, str] | None = None  # generation and member id, as they were last
    _replaced = False  # by another worker of our name
    _renewed = -1  # the generation that we asked to be agreed on anew

    @classmethod
    def take_over(cls, coordinator: Any, ended: Callable[[BaseException], None]) -> None:
        """Turn the coordinator that aiokafka has made, and not yet used, into ours."""
        coordinator.__class__ = cls
        coordinator.ended = ended
        coordinator._coordination_task.add_done_callback(coordinator._coordinated)

    def _coordinated(self, task: Any) -> None:
        """Without its coordination the member would neither count nor leave."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ended(error)

    def _push_error_to_user(self, exc: BaseException) -> Any:
        # The client waits until somebody fetches to raise it; between assignments nobody does.
        self.ended(exc)
        return super()._push_error_to_user(exc)

    async def _on_join_complete(
        self, generation: int, member_id: str, protocol: str, member_assignment_bytes: bytes
    ) -> None:
        """A static member gets what the group agreed on before its restart: once it is out of date, join again."""
        self._joined = (generation, member_id)
        assignment = ConsumerProtocol.ASSIGNMENT.decode(member_assignment_bytes)
        assignor = self._lookup_assignor(protocol)
        if generation != self._renewed and self._outdated(_agreed(assignment), assignor):
            # The broker starts a rebalance if what we say of ourselves changed: it has the assignment in it.
            self._renewed = generation
            assignor.on_assignment(assignment)
            self.request_rejoin()
            return
        await super()._on_join_complete(generation, member_id, protocol, member_assignment_bytes)
        # The client's leader alone watches for new partitions, and one that was restarted doesn't know that it leads.
        self._group_subscription = set(self._subscription.subscription.topics)
        self._metadata_snapshot = self._get_metadata_snapshot()

    def _outdated(self, agreed: Any, assignor: Assignor) -> bool:
        """Whether others know us under another URL, or there are partitions that nobody was given."""
        if agreed.url != str(assignor._url):
            return True
        given = {
            (topic, partition)
            for topics in agreed.external_topic_distribution.values()
            for topic, partitions in topics.items()
            for partition in partitions
        }
        return any(
            (topic, partition) not in given
            for topic in self._subscription.subscription.topics
            for partition in self._cluster.partitions_for_topic(topic) or ()
        )

    async def _perform_assignment(self, response: Any) -> Any:
        """As leader: of all partitions there are now, not of those there were at the last look."""
        await asyncio.wait([self._client.force_metadata_update()], timeout=FRESH_S)
        return await super()._perform_assignment(response)

    async def _send_req(self, request: Any) -> Any:
        if self._replaced:  # joining once more would take the name back from the one who has it now
            await asyncio.sleep(REPLACED_S)
            raise errors.GroupCoordinatorNotAvailableError
        if isinstance(request, JoinGroupRequest) and not self.member_id and self._joined is not None:
            # A commit told us that we are forgotten, not why: whoever has our name must not lose it to us again.
            generation, member = self._joined
            await self._send_req(Heartbeat(self.group_id, generation, member, self._group_instance_id))
            return await self._send_anyway(request)
        if isinstance(request, HeartbeatRequest):
            request = Heartbeat(self.group_id, self.generation, self.member_id, self._group_instance_id)
        return await self._send_anyway(request)

    async def _send_anyway(self, request: Any) -> Any:
        if self._replaced:
            raise errors.GroupCoordinatorNotAvailableError
        response = await super()._send_req(request)
        if getattr(response, "error_code", 0) == FENCED_INSTANCE_ID:
            self._replaced = True
            self.ended(
                RefusedError(
                    f"instance {self._group_instance_id}",
                    f"another worker has joined group {self.group_id} under this name, and counts in our place",
                    "Give each worker its own app.instance",
                )
            )
        return response

    async def ask(self) -> GroupAnswer:
        """One heartbeat. Raises `KafkaError` when the group doesn't say."""
        if not self.member_id:
            return GroupAnswer.UNKNOWN  # the client has heard so already, and is about to join anew
        await self.ensure_coordinator_known()
        response = await self._send_req(HeartbeatRequest(self.group_id, self.generation, self.member_id))
        if response.error_code in ANSWERS:
            return ANSWERS[response.error_code]
        error = errors.for_code(response.error_code)
        if error in (errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError):
            self.coordinator_dead()
        raise error
