"""A trap: what stops a worker at the n-th reach of one named point, and the marker it leaves there."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from domain.probe import Point
from tests.waiting import wait_for

OPTION = "--trap="
HOLD_DEADLINE_S = 15.0
HELD_DEADLINE_S = 50.0  # less than the watchdog's patience


class Trap(msgspec.Struct, frozen=True):
    """Armed before a worker starts.

    `checkpoints`: the thread that came here is held until the rest of the process has made that many more.
    `moment_s`: the process goes on for that long after the point.
    `held`: the thread that came here stands still, once the marker is written, until `release`; then nothing is sent.
    """

    point: Point
    marker: str
    nth: int = 1
    signal: int = signal.SIGKILL
    checkpoints: int = 0
    moment_s: float = 0.0
    held: bool = False

    def argument(self) -> str:
        return OPTION + msgspec.json.encode(self).decode()

    def release(self) -> None:
        Path(self.marker).with_suffix(".released").touch()

    def released(self) -> bool:
        return Path(self.marker).with_suffix(".released").exists()

    def sprung(self) -> Marker | None:
        """What it left; None: the point was not reached yet."""
        try:
            return msgspec.json.decode(Path(self.marker).read_bytes(), type=Marker)
        except FileNotFoundError:
            return None


class Marker(msgspec.Struct, frozen=True):
    """How far the process was when it was stopped."""

    point: Point
    nth: int
    reached: dict[Point, int]  # how often each point was
    batches_since_cut: int
    held_checkpoints: int

    @property
    def uncommitted(self) -> bool:
        """Whether batches were folded that no commit speaks of."""
        cuts, committed = (self.reached.get(one, 0) for one in (Point.CHECKPOINT_CUT, Point.ROWS_COMMITTED))
        return self.batches_since_cut > 0 or cuts > committed


@dataclass(slots=True)
class _Seen:
    reached: Counter[Point]
    batches_since_cut: int = 0


class TrapProbe:
    """The probe that springs a trap, once."""

    def __init__(self, trap: Trap) -> None:
        self._trap = trap
        self._seen = _Seen(Counter())
        self._moved = threading.Condition()

    def __call__(self, point: Point) -> None:
        seen, trap = self._seen, self._trap
        with self._moved:
            seen.reached[point] += 1
            if point is Point.BATCH_FETCHED:
                seen.batches_since_cut += 1
            elif point is Point.CHECKPOINT_CUT:
                seen.batches_since_cut = 0
            self._moved.notify_all()
            here = point is trap.point and seen.reached[point] == trap.nth
        if not here:
            return
        self._mark()
        if trap.held:
            wait_for("the release", trap.released, HELD_DEADLINE_S)
        elif trap.moment_s:
            threading.Timer(trap.moment_s, self._stop).start()
        else:
            self._stop()

    def _stop(self) -> None:
        os.kill(os.getpid(), self._trap.signal)

    def _mark(self) -> None:
        trap = self._trap
        with self._moved:
            held = self._hold()
            marker = Marker(trap.point, trap.nth, dict(self._seen.reached), self._seen.batches_since_cut, held)
        write_durably(Path(trap.marker), msgspec.json.encode(marker))

    def _hold(self) -> int:
        """Keep this thread here, and no other; returns how many checkpoints were made meanwhile."""
        wanted = self._trap.checkpoints
        if not wanted:
            return 0
        assert threading.current_thread() is not threading.main_thread(), "holding the loop would hold checkpoints"
        reached = self._seen.reached
        before = reached[Point.ROWS_APPLIED]
        self._moved.wait_for(lambda: reached[Point.ROWS_APPLIED] >= before + wanted, HOLD_DEADLINE_S)
        return reached[Point.ROWS_APPLIED] - before


def write_durably(path: Path, content: bytes) -> None:
    """A file that is there as a whole, or not at all."""
    half = path.with_suffix(".half")
    with half.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
