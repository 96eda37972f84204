"""The app as after a long pause on a bad network: its commits reach Kafka, what would tell it of the group comes late.

`python -m tests.e2e.forgetful_app`
"""

from __future__ import annotations

import asyncio
import time

from agents.source import Place
from app import cli
from app.transport.group import GroupMember
from app.transport.source import KafkaSource

PAUSE_S = 5.0  # more than any rebalance takes
LATE_S = 4.0


def forgetful() -> None:
    heartbeat = GroupMember._do_heartbeat
    beaten = 0.0

    async def late(member: GroupMember) -> bool:
        nonlocal beaten
        if beaten and time.monotonic() - beaten > PAUSE_S:
            await asyncio.sleep(LATE_S)
        try:
            return bool(await heartbeat(member))
        finally:
            beaten = time.monotonic()

    async def untold(_source: KafkaSource, _offsets: dict[Place, int]) -> None:
        """The group's offsets; their answer names the membership too."""

    GroupMember._do_heartbeat = late
    KafkaSource.commit_group_offsets = untold  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    forgetful()
    cli.main()
