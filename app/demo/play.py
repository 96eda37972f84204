"""What happens: workers, events, a kill, and the truth; then everything is read and compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

from app.cli_options import Victim
from app.demo.dump import read_contents
from app.demo.events import RETENTION_MS, WINDOW_MS, Stream
from app.demo.fleet import Fleet
from app.demo.kill import Killed
from app.demo.outage import Outage, Servers
from app.demo.reading import Partitions
from app.demo.recount import Recount
from app.demo.result import Measured, Result, judge
from app.demo.screen import Screen
from app.demo.send import Sent, create_topic, send
from app.demo.settings import PARTITIONS, TOPIC, Setting
from app.demo.stores import Found, Stores
from app.demo.together import beside, together
from app.demo.verdict import Truth

WORKERS = ("worker-1", "worker-2")
SEND_SECONDS = 10.0
KILL_AT = 0.45  # of the events
DONE_S = 150.0
TOLD_S = 30.0
SHOW_S = 0.4


class Play:
    """One run on servers that are up. `sent` grows on the way; `pid` is there once something was killed.

    `servers` is None where there are only workers to kill.
    """

    def __init__(self, setting: Setting, screen: Screen, events: int, victim: Victim, servers: Servers | None) -> None:
        self._setting = setting
        self._screen = screen
        self._events = events
        self._victim = victim
        self._servers = servers
        self._all = tuple(range(PARTITIONS))
        self._stores = Stores(setting)
        self.fleet = Fleet(setting)
        self.recount = Recount(setting, self._all)
        self.sent = Sent(midway_at=round(KILL_AT * events))
        self.pid: int | None = None
        self._stream: Stream | None = None
        self._all_sent = asyncio.Event()

    @property
    def favourite_page(self) -> str:
        assert self._stream is not None
        return self._stream.favourite_page

    async def to_the_end(self) -> Result:
        """Raises `DemoError` when a worker dies by itself or something isn't done in time, and `RecountError`."""
        say, setting = self._screen.step, self._setting
        await create_topic(setting.bootstrap_servers, TOPIC, PARTITIONS)
        say("starting two workers")
        for name in WORKERS:
            self.fleet.start(name)
        now_ms = int(time.time()) * 1000
        self._stream = await asyncio.to_thread(Stream, self._events, now_ms, PARTITIONS)
        await self.fleet.until_shared()
        say("both workers count: " + self._shares(await self.fleet.serving()))
        showing = asyncio.create_task(self._show())
        try:
            truths, (killed, found) = await together(
                self._send_and_recount(self._stream), self._kill_and_read(self._stream)
            )
        finally:
            showing.cancel()
        say("comparing everything with everything")
        return await asyncio.to_thread(judge, self._measured(truths, killed, found))

    async def _send_and_recount(self, stream: Stream) -> dict[int, Truth]:
        began = time.monotonic()
        await send(stream, self._setting.bootstrap_servers, TOPIC, self.sent, SEND_SECONDS)
        self._all_sent.set()
        rate = self.sent.records / (time.monotonic() - began)
        self._screen.step(f"all {self.sent.records} events are in the topic ({rate:.0f}/s); recounting it apart")
        truths = await self.recount.run(self._setting.config_path(WORKERS[0]))
        self._screen.step("the oracle has recounted the topic")
        return truths

    async def _kill_and_read(self, stream: Stream) -> tuple[Killed, Found]:
        await self.sent.midway.wait()
        if self._victim is Victim.WORKER:
            return await self._kill_a_worker(), await self._read(stream)
        assert self._servers is not None
        outage = Outage(self._victim, self._servers, self.fleet, self._screen.step)
        return await self._read_in_spite_of(outage, stream)

    async def _kill_a_worker(self) -> Killed:
        say = self._screen.step
        dead = await self.fleet.kill_one(self.sent, say)
        self.pid, began = dead.pid, time.monotonic()
        say(
            f"killed {dead.name} (pid {dead.pid}) with -9: it owned partitions {_listed(dead.partitions)} "
            f"and had {dead.uncommitted} records of them to commit",
            "bold",
        )
        await self.fleet.taken_over()
        say("the other worker has taken over; starting the killed one again")
        self.fleet.start(dead.name)
        await self.fleet.until_shared()
        seen = await self.fleet.serving()
        say("both workers count: " + self._shares(seen))
        counted = sum(seen[partition]["next_offset"] for partition in dead.partitions if seen)
        return Killed(Victim.WORKER, dead.name, dead.pid, time.monotonic() - began, max(0, counted - dead.committed))

    async def _read_in_spite_of(self, outage: Outage, stream: Stream) -> tuple[Killed, Found]:
        async def kill_and_read() -> tuple[Killed, Found]:
            try:
                killed = await outage.run(self._events)
            finally:
                self.pid = outage.pid
            found = await self._read(stream)
            return replace(killed, restarted=tuple(outage.restarted)), found

        return await beside(kill_and_read(), outage.keep_hbase_up())

    async def _read(self, stream: Stream) -> Found:
        await self._all_sent.wait()
        where = "archived" if self._setting.thrift is None else "archived and in HBase"
        until = self.fleet.until
        await until(self._is_counted, f"everything to be counted, {where}", DONE_S)
        await until(self._stores.is_closed, "the archive's files to be committed", DONE_S, self._stores.still_open)
        await until(lambda: self._stores.is_told(self.sent.ends), "HBase's frontier to say it of the archive", TOLD_S)
        self._screen.step(f"everything is counted, {where}; reading all of it as a stranger does")
        found = await self._stores.read(next(iter(self.fleet.urls().values())), stream)
        self.fleet.check()
        return found

    async def _is_counted(self) -> bool:
        seen = await self.fleet.seen()
        names = ["next_offset", "archive_next_offset"]
        names += [] if self._setting.thrift is None else ["hbase_next_offset"]
        return len(seen) == PARTITIONS and all(
            one["state"] == "running"
            and one["lag"] == 0
            and all(one[name] == self.sent.ends.get(partition, 0) for name in names)
            for partition, one in seen.items()
        )

    def _measured(self, truths: Mapping[int, Truth], killed: Killed, found: Found) -> Measured:
        return Measured(
            acknowledged=self.sent.records,
            ends=self.sent.ends,
            topic={partition: read_contents(self.recount.folder, partition) for partition in self._all},
            truths=truths,
            states=found.states,
            archived=found.archived,
            live=found.live,
            hbase=found.hbase,
            claimant=self._setting.claimant(),
            killed=killed,
            window_ms=WINDOW_MS,
            retention_ms=RETENTION_MS,
        )

    async def _show(self) -> None:
        """Keep the meters up to date, if anyone looks."""
        screen = self._screen
        fields = {"counted": "next_offset", "archived": "archive_next_offset"}
        fields |= {} if self._setting.thrift is None else {"in HBase": "hbase_next_offset"}
        sent, *meters = [screen.meter(name, self._events) for name in ("sent", *fields)]
        while screen.is_watched:
            seen = await self.fleet.seen()
            sent(self.sent.records)
            for meter, name in zip(meters, fields.values(), strict=True):
                if seen:  # while a partition has no owner, nobody knows
                    meter(sum(one[name] or 0 for one in seen.values()))
            await asyncio.sleep(SHOW_S)

    def _shares(self, partitions: Partitions) -> str:
        shares = {
            name: [partition for partition, one in partitions.items() if one["worker"] == url]
            for name, url in self.fleet.urls().items()
        }
        return "; ".join(f"{name} partitions {_listed(mine)}" for name, mine in sorted(shares.items()))


def _listed(partitions: Collection[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
