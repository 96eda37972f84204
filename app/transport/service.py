"""The Faust app: process life, assignment, agent. What it needs of us comes in by the constructor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from mode.supervisors import CrashingSupervisor
from yarl import URL

from app.transport.consumer import BatchSchema, BatchTransport, Positions
from app.transport.group import Assignor
from app.transport.recovery import Assign, RestoreTables

BUFFERED_BATCHES = 8
METADATA_MS = 30_000  # partitions added to a topic are counted after that long


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    app: str
    bootstrap_servers: str
    data_dir: Path
    url: str  # advertised: how other workers reach this one
    session_timeout_s: float
    instance: str  # of the group: its partitions wait for it over a restart


class _NoWeb(BootStrategy):  # type: ignore[misc]
    enable_web = False


class RecountApp(faust.App):  # type: ignore[misc]
    """One worker's Faust app. Several may live in one process."""

    BootStrategy = _NoWeb

    def __init__(
        self,
        settings: ServiceSettings,
        topics: Collection[str],
        positions: Positions,
        assign: Assign,
        revoke: Callable[[], Awaitable[None]],
        give_up: Callable[[BaseException], None],
    ) -> None:
        self.source_topics = frozenset(topics)
        self.assign = assign
        self.give_up = give_up
        self._positions = positions
        session_s = settings.session_timeout_s
        super().__init__(
            settings.app,
            broker=[URL(f"kafka://{one.strip()}") for one in settings.bootstrap_servers.split(",")],
            datadir=str(settings.data_dir / "faust"),
            canonical_url=settings.url,
            broker_client_id=f"recount-{settings.instance}",  # who it is, in the group's list of members
            autodiscover=False,
            web_enabled=False,
            topic_disable_leader=True,
            TableManager=RestoreTables,
            PartitionAssignor=Assignor,
            agent_supervisor=CrashingSupervisor,
            stream_wait_empty=False,
            stream_buffer_maxsize=BUFFERED_BATCHES,
            stream_recovery_delay=0.0,
            consumer_group_instance_id=settings.instance,
            broker_session_timeout=session_s,
            broker_heartbeat_interval=min(session_s / 6, 3.0),  # how late a rebalance is heard of
            broker_rebalance_timeout=max(3 * session_s, 10.0),
            broker_request_timeout=max(2 * session_s, 20.0),
            broker_max_poll_interval=30 * 86_400.0,  # paused partitions aren't a sign of death: followers wait for days
            broker_commit_interval=3600.0,  # nothing is acked: our checkpoints are the commits
            consumer_max_fetch_size=1 << 20,
            consumer_metadata_max_age_ms=METADATA_MS,
        )

        @self.on_partitions_revoked.connect  # type: ignore[untyped-decorator]
        async def revoked(_app: Any, _revoked: Any, **_: Any) -> None:
            # Awaited inside the rebalance callback, heartbeats going on: it has its own budget.
            await revoke()

    def _create_directories(self) -> None:
        """Faust's own data folder: nothing of ours uses it."""

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self, positions=self._positions)

    def count_with(self, body: Callable[[Any], Awaitable[None]]) -> None:
        """Register the one agent, over every source topic."""
        channel = self.topic(*sorted(self.source_topics), schema=BatchSchema(), acks=False)
        self.agent(channel, name="count")(body)

    def membership(self) -> dict[str, dict[str, list[int]]]:
        """Advertised URL -> topic -> partitions, of every member of the group."""
        found = self.router.external_topics_metadata()
        return {
            str(url): {topic: sorted(parts) for topic, parts in topics.items() if topic in self.source_topics}
            for url, topics in found.items()
        }
