"""A server killed in the middle of the work, and brought back once counting has gone on without it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.cli_options import Victim
from app.demo.errors import DemoError
from app.demo.fleet import Fleet, Reached
from app.demo.kill import Killed
from lab import Hbase, Server
from lab.errors import NotReadyError

BEGIN_S = 60.0
GO_ON_S = 60.0
WATCH_S = 0.5
STUCK_S = 5.0
RESTARTS_MAX = 3
SHARE = 0.3  # of the events: so many are counted while a server is away

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Servers:
    """Those that can be killed, and HBase, which may suffer from it."""

    victims: Mapping[Victim, Server]
    hbase: Hbase


@dataclass
class Outage:
    """One server's. `pid` is there from the kill on; `restarted` grows while `keep_hbase_up` runs."""

    victim: Victim
    servers: Servers
    fleet: Fleet
    say: Say
    pid: int | None = None
    restarted: list[str] = field(default_factory=list)
    _back: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, events: int) -> Killed:
        """Away until a share of the events was counted and committed without it.

        Raises `DemoError` if HBase and archive haven't begun, or nothing is left to count.
        """
        server = self.servers.victims[self.victim]
        before = await self._begun()
        pid = self.pid = server.pid
        assert pid is not None
        began = time.monotonic()
        await asyncio.to_thread(server.kill)
        wanted = min(round(SHARE * events), events - before.counted)
        if wanted < 1:
            raise DemoError(f"everything was counted before {server.name} was killed, which proves nothing")
        self.say(f"killed {server.name} (pid {pid}) with -9: counting must go on without it", "bold")
        after = await self._gone_on(before, wanted)
        self.say(
            f"{after.counted - before.counted} more records are counted and committed, "
            f"{_behind(self.victim, after)}; starting {server.name} again",
            "",
        )
        await asyncio.to_thread(server.start)
        down_s = time.monotonic() - began
        self.say(f"{server.name} serves again: it was away for {down_s:.1f} s", "")
        self._back.set()
        return Killed(self.victim, server.name, pid, down_s, after.counted - before.counted)

    async def keep_hbase_up(self) -> None:
        """Start what ends because of the outage, as any operator's supervisor does; runs until cancelled.

        The lab's region server lives in the master's process, which survives it and waits for another one.
        """
        hbase = self.servers.hbase
        well = time.monotonic()
        while True:
            ended = [one for one in hbase.servers if self._is_bystander(one) and one.died]
            if self.victim is Victim.DATANODE and self._back.is_set() and not ended:
                if await asyncio.to_thread(_serves, hbase.master):
                    well = time.monotonic()
                if time.monotonic() - well > STUCK_S:
                    ended = [hbase.master]
            else:
                well = time.monotonic()
            for server in ended:
                await self._restart(server)
                well = time.monotonic()
            await asyncio.sleep(WATCH_S)

    def _is_bystander(self, server: Server) -> bool:
        return server is not self.servers.victims[self.victim]

    async def _restart(self, server: Server) -> None:
        if len(self.restarted) >= RESTARTS_MAX:
            raise DemoError(f"{server.name} ended {RESTARTS_MAX + 1} times; its log is {server.log_path}")
        self.restarted.append(server.name)
        what = "has ended" if server.died else "has lost its region server, which could not write its log"
        self.say(f"{server.name} {what}: starting it again, as any supervisor would", "yellow")
        await self._back.wait()  # it can't start on what isn't there
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        self.say(f"{server.name} serves again", "")

    async def _begun(self) -> Reached:
        """Once there are counts in HBase and records in the archive: otherwise nothing would be interrupted."""
        reached: Reached | None = None

        async def begun() -> bool:
            nonlocal reached
            reached = await self.fleet.reached()
            return reached is not None and min(reached.in_hbase, reached.archived) > 0

        await self.fleet.until(begun, "first counts in HBase and first records in the archive", BEGIN_S)
        assert reached is not None
        return reached

    async def _gone_on(self, before: Reached, wanted: int) -> Reached:
        """When that much more is counted, and one of those that need the server has fallen behind by most of it."""
        reached = before

        async def gone_on() -> bool:
            nonlocal reached
            reached = await self.fleet.reached() or reached
            counted = reached.counted - before.counted
            # A put whose answer was on its way may still have moved it.
            followed = min(_followed(self.victim, reached, before))
            return counted >= wanted and followed <= counted // 2

        name = self.servers.victims[self.victim].name
        await self.fleet.until(gone_on, f"{wanted} records to be counted without {name}", GO_ON_S)
        return reached


def _followed(victim: Victim, after: Reached, before: Reached) -> tuple[int, ...]:
    """How far those went on that can't do without the victim."""
    in_hbase, archived = after.in_hbase - before.in_hbase, after.archived - before.archived
    return (in_hbase,) if victim is Victim.THRIFT else (in_hbase, archived)


def _behind(victim: Victim, reached: Reached) -> str:
    text = f"HBase is {reached.counted - reached.in_hbase} behind"
    return text if victim is Victim.THRIFT else f"{text}, the archive {reached.counted - reached.archived}"


def _serves(server: Server) -> bool:
    try:
        server.probe()
    except NotReadyError:
        return False
    return True
