"""What happens: workers, events, a kill, and the truth; then everything is read and compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from app.claimants import claimants
from app.cli_options import Victim
from app.config import load_config
from app.demo.dump import read_contents
from app.demo.events import MAX_PAST_MS, RETENTION_MS, WINDOW_MS, Stream
from app.demo.fleet import Fleet
from app.demo.hbase import Tables, read_hbase
from app.demo.outage import Outages, Servers, total
from app.demo.reading import Partitions, count_open, partitions_seen, read_archive, read_live, read_state
from app.demo.recount import Recount
from app.demo.result import Measured, Result, judge
from app.demo.screen import Screen
from app.demo.send import Sent, create_topic, send
from app.demo.settings import PARTITIONS, TABLE, TOPIC, Setting
from app.demo.together import together
from app.demo.verdict import Archived, Live, State, Truth
from domain.errors import SinkUnavailableError
from sinks.archive.fs import open_file_system

WORKERS = ("worker-1", "worker-2")
SEND_SECONDS = 10.0
KILL_AT = 0.45  # of the events
DONE_S = 120.0
SHOW_S = 0.4
OUTAGE_SHARE = 0.25  # of the events: so many are counted before a killed server comes back
FOLLOWERS = {Victim.THRIFT: "hbase_next_offset", Victim.DATANODE: "archive_next_offset"}


@dataclass(frozen=True, slots=True)
class Found:
    """What was read at the end."""

    states: Mapping[int, State]
    archived: Mapping[int, Archived]
    live: Live
    hbase: Tables | None


class Play:
    """One run on servers that are up. `sent` and `killed` grow on the way.

    `servers` None: nothing but workers can be killed.
    """

    def __init__(
        self,
        setting: Setting,
        screen: Screen,
        events: int,
        victim: Victim,
        servers: Servers | None,
    ) -> None:
        self._setting = setting
        self._screen = screen
        self._events = events
        self._all = tuple(range(PARTITIONS))
        self._fs, self._root = open_file_system(setting.archive_url, setting.archive_options)
        self.fleet = Fleet(setting)
        self.recount = Recount(setting, self._all)
        self.sent = Sent(midway_at=round(KILL_AT * events))
        self.killed: int | None = None
        self._victim = victim
        self._servers = servers
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
            truths, found = await together(self._send_and_recount(self._stream), self._kill_and_read(self._stream))
        finally:
            showing.cancel()
        say("comparing everything with everything")
        return await asyncio.to_thread(judge, self._measured(truths, found))

    async def _send_and_recount(self, stream: Stream) -> dict[int, Truth]:
        began = time.monotonic()
        await send(stream, self._setting.bootstrap_servers, TOPIC, self.sent, SEND_SECONDS)
        self._all_sent.set()
        rate = self.sent.records / (time.monotonic() - began)
        self._screen.step(f"all {self.sent.records} events are in the topic ({rate:.0f}/s); recounting it apart")
        truths = await self.recount.run(self._setting.config_path(WORKERS[0]))
        self._screen.step("the oracle has recounted the topic")
        return truths

    async def _kill_and_read(self, stream: Stream) -> Found:
        say = self._screen.step
        await self.sent.midway.wait()
        if self._victim is Victim.WORKER:
            await self._kill_a_worker()
            return await self._read_when_done(stream)
        assert self._servers is not None
        outages = Outages(self.fleet, self._seen, say)
        server = self._servers.thrift if self._victim is Victim.THRIFT else self._servers.datanode
        outage = await outages.of(server, FOLLOWERS[self._victim], round(OUTAGE_SHARE * self._events))
        self.killed = outage.pid
        attending = asyncio.create_task(outages.attend(self._servers.thrift, self._servers.master))
        try:
            return await self._read_when_done(stream)
        finally:
            attending.cancel()

    async def _kill_a_worker(self) -> None:
        say = self._screen.step
        kill = await self.fleet.kill_one(self.sent, say)
        self.killed = kill.pid
        say(
            f"killed {kill.name} (pid {kill.pid}) with -9: it owned partitions {_listed(kill.partitions)} "
            f"and had {kill.uncommitted} records of them to commit",
            "bold",
        )
        await self.fleet.taken_over()
        say("the other worker has taken over; starting the killed one again")
        self.fleet.start(kill.name)
        await self.fleet.until_shared()
        say("both workers count: " + self._shares(await self.fleet.serving()))

    async def _read_when_done(self, stream: Stream) -> Found:
        await self._all_sent.wait()
        where = "archived" if self._setting.thrift is None else "archived and in HBase"
        await self.fleet.until(self._is_counted, f"everything to be counted, {where}", DONE_S)
        await self.fleet.until(self._is_closed, "the archive's files to be committed", DONE_S)
        self._screen.step(f"everything is counted, {where}; reading all of it as a stranger does")
        return await self._read(stream)

    async def _is_counted(self) -> bool:
        seen = await self._seen()
        names = ["next_offset", "archive_next_offset"]
        names += ["hbase_next_offset"] if self._setting.thrift is not None else []
        return len(seen) == PARTITIONS and all(
            one["state"] == "running"
            and one["lag"] == 0
            and {one[name] for name in names} == {self.sent.ends.get(partition, 0)}
            for partition, one in seen.items()
        )

    async def _is_closed(self) -> bool:
        try:
            return await asyncio.to_thread(count_open, self._fs, self._root) == 0
        except SinkUnavailableError:
            return False

    async def _seen(self) -> Partitions:
        for url in self.fleet.urls().values():
            if seen := await partitions_seen(url):
                return seen
        return {}

    async def _read(self, stream: Stream) -> Found:
        setting = self._setting
        url = next(iter(self.fleet.urls().values()))
        states, archived, live, hbase = await together(
            together(*(read_state(setting.bootstrap_servers, partition) for partition in self._all)),
            asyncio.to_thread(read_archive, self._fs, self._root, PARTITIONS),
            read_live(url, stream.start_ms - MAX_PAST_MS, stream.end_ms + MAX_PAST_MS),
            self._read_hbase(),
        )
        self.fleet.check()
        return Found(dict(zip(self._all, states, strict=True)), archived, live, hbase)

    async def _read_hbase(self) -> Tables | None:
        thrift = self._setting.thrift
        return None if thrift is None else await asyncio.to_thread(read_hbase, thrift, TABLE)

    def _measured(self, truths: Mapping[int, Truth], found: Found) -> Measured:
        (claimant,) = claimants(load_config(self._setting.config_path(WORKERS[0])))
        return Measured(
            acknowledged=self.sent.records,
            ends=self.sent.ends,
            topic={partition: read_contents(self.recount.folder, partition) for partition in self._all},
            truths=truths,
            states=found.states,
            archived=found.archived,
            live=found.live,
            hbase=found.hbase,
            claimant=claimant,
            killed=self.killed,
            victim=self._victim,
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
            seen = await self._seen()
            sent(self.sent.records)
            for meter, name in zip(meters, fields.values(), strict=True):
                if seen:  # while a partition has no owner, nobody knows
                    meter(total(seen, name))
            await asyncio.sleep(SHOW_S)

    def _shares(self, partitions: Partitions) -> str:
        shares = {
            name: [partition for partition, one in partitions.items() if one["worker"] == url]
            for name, url in self.fleet.urls().items()
        }
        return "; ".join(f"{name} partitions {_listed(mine)}" for name, mine in sorted(shares.items()))


def _listed(partitions: Collection[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
