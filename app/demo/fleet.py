"""The demo's workers: started, watched, one killed at a moment that proves something, and started again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.demo.errors import DemoError
from app.demo.processes import Worker, stop_all
from app.demo.reading import Partitions, ask, own_partitions, partitions_seen, read_state
from app.demo.send import Sent
from app.demo.settings import PARTITIONS, SESSION_S, Setting

START_S = 60.0
TAKE_OVER_S = 12 * SESSION_S
KILL_S = 30.0
STOP_S = 12.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class DeadWorker:
    """A worker killed with -9: what it owned, and how many acknowledged records of that it had not committed."""

    pid: int
    name: str
    partitions: tuple[int, ...]
    committed: int  # next offsets, summed
    uncommitted: int


@dataclass(frozen=True, slots=True)
class Reached:
    """Next offsets, summed over all partitions: of what is counted and committed, in HBase, in the archive."""

    counted: int
    in_hbase: int
    archived: int


class Fleet:
    """Workers by instance name. Call it from the main thread."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._workers: dict[str, Worker] = {}
        self._starts: Counter[str] = Counter()

    def start(self, name: str) -> None:
        self._starts[name] += 1
        # A log of its own each time: its address is read from it.
        again = f"-{self._starts[name]}" if self._starts[name] > 1 else ""
        worker = Worker(
            name=name,
            arguments=(
                *("-m", "app", "worker", "--log-format", "json"),
                *("--config", str(self._setting.write_config(name))),
            ),
            log_path=self._setting.logs / f"{name}{again}.log",
            environment=self._setting.environment,
        )
        worker.start()
        self._workers[name] = worker

    def check(self) -> None:
        """Raises `DemoError` if a worker died by itself."""
        for worker in self._workers.values():
            worker.check()

    def urls(self) -> dict[str, str]:
        """The web addresses of those that have one by now."""
        return {name: url for name, worker in sorted(self._workers.items()) if (url := worker.url()) is not None}

    def stop(self) -> list[str]:
        """SIGTERM to all; returns who had to be killed."""
        return stop_all(list(self._workers.values()), STOP_S)

    async def serving(self) -> Partitions:
        """All partitions, if every worker is up and says the same of who counts what; else empty."""
        urls = self.urls()
        if len(urls) < len(self._workers):
            return {}
        seen = [await partitions_seen(url) for url in urls.values()]
        owners = [{p: one["worker"] for p, one in partitions.items()} for partitions in seen]
        agreed = len(owners[0]) == PARTITIONS and all(one == owners[0] for one in owners)
        running = all(one["state"] == "running" for one in seen[0].values())
        return seen[0] if agreed and running else {}

    async def seen(self) -> Partitions:
        """All partitions as any of the workers sees them; empty while one isn't served."""
        for url in self.urls().values():
            if seen := await partitions_seen(url):
                return seen
        return {}

    async def reached(self) -> Reached | None:
        """None while a partition isn't served."""
        seen = await self.seen()
        names = ("next_offset", "hbase_next_offset", "archive_next_offset")
        return Reached(*(sum(one[name] or 0 for one in seen.values()) for name in names)) if seen else None

    async def shared(self) -> bool:
        """Whether every worker counts some partition."""
        partitions = await self.serving()
        owners = {one["worker"] for one in partitions.values()}
        return bool(owners) and owners == set(self.urls().values())

    async def until_shared(self, deadline_s: float = START_S) -> None:
        await self.until(self.shared, "the workers to share the partitions", deadline_s)

    async def until(
        self, condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float, left: Callable[[], str] = str
    ) -> None:
        """Wait for a condition. Raises `DemoError` at the deadline, with what is left, or when a worker dies."""
        end = time.monotonic() + deadline_s
        while not await condition():
            self.check()
            if time.monotonic() > end:
                raise DemoError(f"waited {deadline_s:.0f} s for {what}{left()}", await self._last_words())
            await asyncio.sleep(POLL_S)

    async def kill_one(self, sent: Sent, say: Callable[[str], None]) -> DeadWorker:
        """Kill -9 a worker in the middle of its work: it has committed some, and has acknowledged records to commit.

        Otherwise its death would prove nothing: then it says so and tries again shortly.
        """
        end = time.monotonic() + KILL_S
        while time.monotonic() < end:
            self.check()
            found = await self._at_work(sent)
            if found is None:
                await asyncio.sleep(POLL_S)
                continue
            name, partitions = found
            worker = self._workers.pop(name)
            worker.check()
            worker.kill()
            done = await self._committed(partitions)
            uncommitted = sum(max(0, sent.ends.get(p, 0) - at) for p, at in done.items())
            if uncommitted:
                return DeadWorker(worker.pid, name, partitions, sum(done.values()), uncommitted)
            say(f"{name} had committed everything when it was killed, which proves nothing: trying again")
            self.start(name)
            await self.until_shared(TAKE_OVER_S)
        raise DemoError(f"no worker could be killed at work within {KILL_S:.0f} s", await self._last_words())

    async def _at_work(self, sent: Sent) -> tuple[str, tuple[int, ...]] | None:
        """A worker that seems to be in the middle of its work, and its partitions."""
        for name, url in self.urls().items():
            ends = dict(sent.ends)
            own = await own_partitions(url)
            begun = any(one["next_offset"] > 0 for one in own.values())
            if begun and any(one["next_offset"] < ends.get(p, 0) for p, one in own.items()):
                return name, tuple(own)
        return None

    async def _committed(self, partitions: tuple[int, ...]) -> dict[int, int]:
        """Next offsets of the committed state of partitions that nobody counts now."""
        states = await asyncio.gather(*(read_state(self._setting.bootstrap_servers, p) for p in partitions))
        done = (0 if state.progress is None else state.progress.next_offset for state in states)
        return dict(zip(partitions, done, strict=True))

    async def taken_over(self) -> None:
        """Wait until those left count everything."""
        await self.until(self.shared, "the other worker to take over", TAKE_OVER_S)

    async def _last_words(self) -> str:
        """What each worker says of the partitions, and the end of its log."""
        words = []
        for name, worker in self._workers.items():
            url = worker.url()
            says = "no address yet" if url is None else json.dumps(await ask(url, "/partitions"))
            words.append(f"{name} at {url}: {says}\n{worker.tail()}")
        return "\n".join(words)
