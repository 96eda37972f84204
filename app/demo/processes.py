"""Processes of the demo: they log to files, die with the demo, and say why when they die before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.demo.errors import DemoError

CHECKOUT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("child.py")
TAIL_LINES = 20
DIE_SECONDS = 20.0
POLL_S = 0.05


@dataclass
class Process:
    """One program. Start it from the main thread: it dies with the thread that started it."""

    name: str
    arguments: Sequence[str]
    log_path: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    output_path: Path | None = None  # standard output; the log unless given
    niceness: int = 0
    _running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None
        return self._running.pid

    @property
    def returncode(self) -> int | None:
        return None if self._running is None else self._running.poll()

    @property
    def runs(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        # Not this shell's settings of Recount: they would override the demo's file.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RECOUNT_")}
        launcher = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), str(self.niceness), sys.executable]
        with self.log_path.open("ab") as log, (self.output_path or self.log_path).open("ab") as output:
            self._running = subprocess.Popen(
                [*launcher, *self.arguments],
                cwd=CHECKOUT,
                env=inherited | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is the demo's to handle
            )

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Does nothing to a process that is."""
        if self._running is not None:
            self._running.kill()
            self._running.wait(DIE_SECONDS)

    def terminate(self) -> None:
        if self.runs and self._running is not None:
            self._running.terminate()

    def tail(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])

    def check(self) -> None:
        """Raises `DemoError` if the process ended though nobody asked it to."""
        if self._running is not None and self._running.poll() is not None:
            code = self._running.returncode
            how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
            raise DemoError(f"{self.name} (pid {self.pid}) ended {how}; its log is {self.log_path}", self.tail())


class Worker(Process):
    """`recount worker` as a process."""

    def url(self) -> str | None:
        """Where its web server listens, once it has said so in its log."""
        try:
            lines = self.log_path.read_bytes().splitlines()
        except OSError:
            return None
        for line in reversed(lines):  # the newest start is the last
            if b'"worker up"' in line:
                return str(json.loads(line)["web"])
        return None


async def finish(process: Process, deadline_s: float) -> None:
    """Wait for a process that is to end by itself. Raises `DemoError` unless it ends well and in time."""
    end = time.monotonic() + deadline_s
    while process.runs:
        if time.monotonic() > end:
            raise DemoError(f"{process.name} wasn't done after {deadline_s:.0f} s", process.tail())
        await asyncio.sleep(POLL_S)
    if process.returncode != 0:
        process.check()


def stop_all(processes: Sequence[Process], deadline_s: float) -> list[str]:
    """SIGTERM to all, SIGKILL to who is left at the deadline; returns the names of those."""
    for process in processes:
        process.terminate()
    end = time.monotonic() + deadline_s
    while any(process.runs for process in processes) and time.monotonic() < end:
        time.sleep(POLL_S)
    left = [process.name for process in processes if process.runs]
    for process in processes:
        process.kill()
    return left
