"""A lab without a caller: a holder process keeps it until `down`, and a state file says where it is.

The holder is an ordinary caller of `Lab`: if it is killed, its supervisor cleans up as for any other.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import jars
from lab.errors import LabError
from lab.lab import Lab

DOWN_SECONDS = 30.0
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ProcessRecord:
    """A process, told from a later one with the same id by its start time in clock ticks since boot."""

    pid: int
    started_ticks: int

    @property
    def lives(self) -> bool:
        return _started_ticks(self.pid) == self.started_ticks


@dataclass(frozen=True)
class State:
    """What is known of the detached lab."""

    holder: ProcessRecord
    supervisor: ProcessRecord
    directory: str
    addresses: dict[str, str]
    servers: dict[str, ProcessRecord]

    def log_path(self, server: str) -> Path:
        return Path(self.directory) / "logs" / f"{server}.log"


def state_path() -> Path:
    return jars.cache_directory() / "lab-up.json"


def read_state() -> State | None:
    """Return the state of the lab that is up, or None."""
    try:
        raw = json.loads(state_path().read_text())
    except FileNotFoundError:
        return None
    return State(
        holder=ProcessRecord(**raw["holder"]),
        supervisor=ProcessRecord(**raw["supervisor"]),
        directory=raw["directory"],
        addresses=raw["addresses"],
        servers={name: ProcessRecord(**record) for name, record in raw["servers"].items()},
    )


def up(names: Sequence[str], brokers: int) -> State:
    """Start a lab that outlives this process. Raises `LabError` if one is up or a server fails."""
    with jars.locked(jars.cache_directory() / "lab-up.lock"):
        present = read_state()
        if present is not None and present.holder.lives:
            raise LabError("a lab is up already: see status, or take it down first")
        state_path().unlink(missing_ok=True)
        command = [sys.executable, "-m", "lab.detached", str(brokers), *names]
        holder = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert holder.stdout is not None
        try:
            holder.stdout.read()  # ends when the holder has written its state, or died
        except KeyboardInterrupt:
            holder.terminate()
            raise
        state = read_state()
        if state is None:
            raise LabError("the lab did not come up")
        return state


def down() -> bool:
    """Stop the lab that is up; returns when all its processes are gone. False if there was none."""
    state = read_state()
    if state is None:
        return False
    processes = [state.holder, state.supervisor, *state.servers.values()]
    found = any(process.lives for process in processes)
    _signal(state.holder, signal.SIGTERM)
    if not _wait_gone(processes, DOWN_SECONDS):
        for process in processes:
            _signal(process, signal.SIGKILL)
        if not _wait_gone(processes, DOWN_SECONDS):
            raise LabError(f"some of these processes do not end: {sorted(process.pid for process in processes)}")
    state_path().unlink(missing_ok=True)
    return found


def hold(names: Sequence[str], brokers: int) -> None:
    """Be the holder: start the servers, write the state, wait for SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Lab() as lab:
        lab.start(*names, brokers=brokers)
        state = State(
            holder=_record(os.getpid()),
            supervisor=_record(lab.supervisor_pid),
            directory=str(lab.directory),
            addresses={service.name: service.address for service in lab.services},
            servers={name: _record(server.pid) for name, server in lab.servers.items() if server.pid is not None},
        )
        being_written = state_path().with_suffix(".new")
        being_written.write_text(json.dumps(asdict(state), indent=2) + "\n")
        being_written.rename(state_path())
        # From here on nothing may tie the holder to the terminal it was started from.
        with (lab.directory / "logs" / "holder.log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            while True:
                signal.pause()
        finally:
            state_path().unlink(missing_ok=True)


def _record(pid: int) -> ProcessRecord:
    ticks = _started_ticks(pid)
    if ticks is None:
        raise LabError(f"process {pid} ended while the lab came up")
    return ProcessRecord(pid, ticks)


def _started_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])  # field 22, starttime


def _signal(process: ProcessRecord, number: signal.Signals) -> None:
    if process.lives:
        os.kill(process.pid, number)


def _wait_gone(processes: Sequence[ProcessRecord], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while any(process.lives for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


if __name__ == "__main__":
    try:
        hold(sys.argv[2:], int(sys.argv[1]))
    except LabError as error:
        sys.exit(f"lab: {error}")
