"""A server killed in the middle of the work, and brought back once counting has gone on without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.demo.fleet import Fleet
from app.demo.reading import Partitions
from lab import Server
from lab.errors import NotReadyError

GO_ON_S = 60.0
LOOK_S = 1.0
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Outage:
    """How long a server was away, and how many records were counted and committed meanwhile."""

    pid: int
    server: str
    seconds: float
    counted: int


@dataclass(frozen=True, slots=True)
class Servers:
    """What HDFS and HBase run as."""

    datanode: Server
    master: Server
    thrift: Server


class Outages:
    """Kills servers and brings them back. `seen` gives the partitions as a worker shows them."""

    def __init__(
        self, fleet: Fleet, seen: Callable[[], Awaitable[Partitions]], say: Callable[[str, str], None]
    ) -> None:
        self._fleet = fleet
        self._seen = seen
        self._say = say

    async def of(self, server: Server, follower: str, records: int) -> Outage:
        """Away until that many records were counted without it, and `follower` (a field) stayed behind."""
        await self._fleet.until(self._all_seen, "all partitions to be counted", GO_ON_S)
        before = await self._seen()
        pid = server.pid
        assert pid is not None
        await asyncio.to_thread(server.kill)
        began = time.monotonic()
        self._say(f"killed {server.name} (pid {pid}) with -9: counting must go on without it", "bold")
        counted = behind = 0

        async def gone_on() -> bool:
            nonlocal counted, behind
            after = await self._seen()
            if after:
                counted = total(after, "next_offset") - total(before, "next_offset")
                behind = total(after, "next_offset") - total(after, follower)
            return min(counted, behind) >= records

        await self._fleet.until(gone_on, f"{records} records to be counted without {server.name}", GO_ON_S)
        outage = Outage(pid, server.name, time.monotonic() - began, counted)
        self._say(
            f"{counted} more records are counted, {behind} wait for {server.name}; starting it again after "
            f"{outage.seconds:.1f} s",
            "",
        )
        await asyncio.to_thread(server.start)
        return outage

    async def attend(self, health: Server, server: Server) -> None:
        """Restart a server once `health` has failed for a while, as an operator's supervisor does.

        A region server gives up when the DataNode of its log is gone; here it is a part of the master's process.
        """
        well_at = time.monotonic()
        while True:
            try:
                await asyncio.to_thread(health.probe)
                well_at = time.monotonic()
            except NotReadyError as reason:
                if time.monotonic() - well_at > PATIENCE_S:
                    self._say(f"HBase doesn't recover by itself ({reason}): restarting {server.name}", "yellow")
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    well_at = time.monotonic()
            await asyncio.sleep(LOOK_S)

    async def _all_seen(self) -> bool:
        return bool(await self._seen())


def total(partitions: Partitions, name: str) -> int:
    return sum(one[name] or 0 for one in partitions.values())
