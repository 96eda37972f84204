"""From an assigned partition to one that is read: fence, restore, seek, go. None waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import structlog

from agents.events import Listener
from agents.fencing import still_ours
from agents.opening import Opened, to_the_end
from agents.source import Place, Source
from domain.errors import DependencyError, FencedError, RetriableError

log = structlog.get_logger(__name__)

RETRY_S = 1.0


class Opener(Protocol):
    async def open(self, place: Place) -> Opened: ...


class Owner(Protocol):
    """Who counts partitions once they are taken over."""

    def own(self, place: Place, opened: Opened) -> None: ...

    def next_offset(self, place: Place) -> int | None:
        """Where reading goes on; None: it was given up meanwhile."""

    def read_on(self, place: Place) -> None:
        """It is sought: let its records come, unless something else holds them up."""


class Takeovers:
    """Partitions that are ours and aren't read yet, each with a task of its own, which `end` ends.

    Until then Faust holds them (`BatchConsumer.perform_seek`). `crash` is called with what must end the process.
    """

    def __init__(
        self,
        opener: Opener,
        owner: Owner,
        source: Source,
        listener: Listener,
        patience_s: float,
        crash: Callable[[BaseException], None],
    ) -> None:
        self.opener = opener
        self._owner = owner
        self._source = source
        self._listener = listener
        self._patience_s = patience_s
        self._crash = crash
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._locks: dict[Place, asyncio.Lock] = {}
        self._epoch = 0  # aiokafka may swallow a cancellation: what outlasts its assignment is not ours any more

    @property
    def places(self) -> Collection[Place]:
        return self._tasks.keys()

    def lock(self, place: Place) -> asyncio.Lock:
        """One opening or dropping of a partition at a time: a cancelled restore must not fence its successor."""
        return self._locks.setdefault(place, asyncio.Lock())

    def begin(self, place: Place, after: Awaitable[None] | None = None) -> None:
        """Take a partition over, in the background.

        The first try right after an assignment doesn't ask the group; with `after`, which ends first, it does.
        """
        before = self._tasks.pop(place, None)
        if before is not None:
            self._cancel(before)
        task = self._tasks[place] = asyncio.create_task(self._run(place, self._epoch, after), name=f"takeover {place}")
        task.add_done_callback(lambda done: self._ended(place, done))

    def end(self) -> None:
        """Let go of everything half done; nobody is waited for."""
        self._epoch += 1
        for task in self._tasks.values():
            self._cancel(task)
        self._tasks.clear()

    def _cancel(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.cancel()

    def _ended(self, place: Place, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if self._tasks.get(place) is task:
            del self._tasks[place]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash(error)

    async def _run(self, place: Place, epoch: int, after: Awaitable[None] | None) -> None:
        if after is not None:
            await asyncio.shield(after)
        async with self.lock(place):
            try:
                await self._take_over(place, epoch, ask=after is not None)
            finally:
                if self._owner.next_offset(place) is None:  # cancelled: somebody else restores it now
                    self._listener.dropped(place)
        await self._start_reading(place, epoch)

    async def _take_over(self, place: Place, epoch: int, *, ask: bool) -> None:
        """Until it works: an unknown outcome or a silent server is tried again, a refusal ends the worker."""
        while self._epoch == epoch:
            self._listener.restoring(place)
            if ask and not await self._still_ours(place, epoch):
                return
            ask = True
            try:
                opened = await self.opener.open(place)
            except (RetriableError, DependencyError, FencedError, OSError) as err:
                log.warning("partition not taken over yet", partition=str(place), reason=str(err))
                await asyncio.sleep(RETRY_S)
                continue
            if self._epoch == epoch:
                self._owner.own(place, opened)
            else:
                await to_the_end(opened.close())
            return

    async def _still_ours(self, place: Place, epoch: int) -> bool:
        return await still_ours(self._source, place, self._patience_s, lambda: self._epoch == epoch)

    async def _start_reading(self, place: Place, epoch: int) -> None:
        while self._epoch == epoch and (next_offset := self._owner.next_offset(place)) is not None:
            try:
                await self._source.seek(place, next_offset)
            except RetriableError as err:
                log.warning("partition not read yet", partition=str(place), reason=str(err))
                await asyncio.sleep(RETRY_S)
                continue
            if self._epoch == epoch:
                self._owner.read_on(place)
            return
