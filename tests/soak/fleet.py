"""The workers of a soak: who should be running, who is being tampered with, and who ended of its own accord."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.cli_errors import ExitCode
from tests.e2e.faults.stage import MODULE
from tests.e2e.faults.trap import Trap
from tests.e2e.scene import Scene
from tests.e2e.workers import GRACE_S, Worker, get
from tests.soak.journal import Journal
from tests.waiting import POLL_S, wait_for

NAMES = ("w1", "w2", "w3")
BUSY_S = 240.0  # longer than any fault
UP_S = 30.0
ASK_S = 6.0
PATIENCE_S = 60.0  # after an outage a worker may still end because of it


@dataclass
class Member:
    """One instance. Whoever holds the lock may start and end it."""

    worker: Worker
    wanted: bool = False
    damaged: bool = False  # local state; it may end when it finds out
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, trap: Trap | None = None) -> None:
        """It isn't waited for: what it needs may be away."""
        self.worker.start(*([trap.argument()] if trap else []))

    def kill(self) -> bool:
        """Whether it was there to be killed."""
        if not self.worker.running:
            return False
        self.worker.signal(signal.SIGKILL)
        return self.worker.wait(GRACE_S) == -signal.SIGKILL

    @property
    def up(self) -> bool:
        return self.worker.running and bool(self.worker.entries("worker up"))

    def stop(self) -> bool:
        """Asked to end, it ends as promised; killed if it doesn't come up. Whether it was asked."""
        give_up = time.monotonic() + UP_S
        while self.worker.running and not self.up and time.monotonic() < give_up:
            time.sleep(POLL_S)
        if self.up:
            self.worker.terminate()
            return True
        self.kill()
        return False

    def ready(self) -> bool:
        up = self.worker.entries("worker up") if self.worker.running else []
        try:
            return bool(up) and bool(get(up[0]["web"], "/readyz", ASK_S)["status"] == "ready")
        except OSError:
            return False

    def owned(self) -> dict[int, int]:
        """Partitions it counts now, and how far each is committed; nothing from one that doesn't answer."""
        up = self.worker.entries("worker up") if self.worker.running else []
        if not up:
            return {}
        try:
            found = get(up[0]["web"], "/api/v1/partitions", ASK_S)["partitions"]
        except OSError:
            return {}
        mine = [one for one in found if one["worker"] == up[0]["web"] and one["state"] == "running"]
        return {one["partition"]: one["next_offset"] for one in mine}


class Fleet:
    """`NAMES` at most; those that are wanted run, or are under a fault, or have just ended for a reason we gave."""

    def __init__(self, scene: Scene, journal: Journal) -> None:
        self._journal = journal
        self.members = [Member(scene.worker(name, MODULE)) for name in NAMES]
        self._change = threading.Lock()
        self.back: dict[str, float] = {}  # when what a start needs last came back; infinity while it is away

    @property
    def wanted(self) -> list[Member]:
        return [one for one in self.members if one.wanted]

    @contextmanager
    def any_of(self, which: int, *, wanted: bool = True) -> Iterator[Member | None]:
        """One of the wanted, or of the others, for this caller alone: from `which` on the first that is free."""

        def free() -> tuple[Member | None] | None:
            found = [one for one in self.members if one.wanted is wanted]
            for step in range(len(found)):
                one = found[(which + step) % len(found)]
                if one.lock.acquire(blocking=False):
                    if one.wanted is wanted:
                        return (one,)
                    one.lock.release()
            return None if found else (None,)

        (held,) = wait_for("a worker that nobody tampers with", free, BUSY_S)
        try:
            if held is not None:
                self._bring_back(held)
            yield held
        finally:
            if held is not None:
                held.lock.release()

    def spare(self, member: Member) -> bool:
        """From now on it isn't wanted, unless it is the last one."""
        with self._change:
            if len(self.wanted) > 1:
                member.wanted = False
            return not member.wanted

    @contextmanager
    def all(self) -> Iterator[list[Member]]:
        """Everybody, for this caller alone."""
        for one in self.members:
            assert one.lock.acquire(timeout=BUSY_S), f"{one.worker.name} is being tampered with"
        try:
            yield self.wanted
        finally:
            for one in self.members:
                one.lock.release()

    def look(self) -> None:
        """Start again who ended for a reason we gave; any other end is a failure."""
        for one in self.wanted:
            if one.lock.acquire(blocking=False):
                try:
                    self._bring_back(one)
                finally:
                    one.lock.release()

    def _bring_back(self, member: Member) -> None:
        if member.wanted and not member.worker.running:
            self.after_its_end(member)
            member.start()

    def after_its_end(self, member: Member) -> None:
        """It ended, and nobody asked it to. Raises unless it may."""
        code = member.worker.wait(0)
        excused = code == ExitCode.UNREACHABLE and time.monotonic() < max(self.back.values(), default=0.0) + PATIENCE_S
        found_out = member.damaged and "Corruption" in member.worker.log()
        self._journal.write("ended by itself", target=member.worker.name, code=code, damage_found=found_out)
        self._journal.restarts += 1
        assert excused or found_out, (
            f"{member.worker.name} ended by itself, code {code}:\n{member.worker.log()[-3000:]}"
        )
        member.damaged &= not found_out  # it starts afresh
