"""Server processes as handles: started, killed, paused, resumed and restarted one by one."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from typing import Any

from lab.errors import LabError, NotReadyError, PortTakenError, ServerFailedError, tail_of

POLL_SECONDS = 0.05
START_SECONDS = 90.0
DIE_SECONDS = 20.0
SUPERVISOR_GONE = "the lab's supervisor process is gone"
PORT_TAKEN_SIGNS = ("Address already in use", "BindException", "Could not start ZK at requested port")


class Supervisor:
    """The caller's end of the supervisor process that parents all servers of one lab. Thread safe."""

    def __init__(self, parent_directory: Path) -> None:
        script = Path(__file__).with_name("supervisor.py")
        self._caller = os.getpid()
        self._lock = threading.Lock()
        # Its own session: Ctrl-C in the caller's terminal is the caller's to handle.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(parent_directory), str(self._caller)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a request that could not be sent must not wait in a buffer for the close
            start_new_session=True,
        )
        self.directory = Path(self._receive()["directory"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, argv: Sequence[str], cwd: Path, env: dict[str, str], log_path: Path) -> int:
        request = {"op": "start", "argv": list(argv), "cwd": str(cwd), "env": env, "log": str(log_path)}
        return int(self._ask(request)["pid"])

    def signal(self, pid: int, signal: Signals) -> None:
        self._ask({"op": "signal", "pid": pid, "signal": int(signal)})

    def returncode(self, pid: int) -> int | None:
        """Return the exit code (negative: the signal), None while the process exists."""
        code = self._ask({"op": "poll", "pid": pid})["returncode"]
        return None if code is None else int(code)

    def close(self, remove: Sequence[Path]) -> None:
        """Kill all servers, remove the paths and wait for it. Does nothing in a fork of the caller, or twice."""
        process = self._process
        if os.getpid() != self._caller or process.stdin is None or process.stdin.closed:
            return
        with contextlib.suppress(LabError):  # the supervisor is gone, and with it the servers
            self._ask({"op": "remove", "paths": [str(path) for path in remove]})
        with self._lock:
            process.stdin.close()
            process.wait(DIE_SECONDS)
            assert process.stdout is not None
            process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            if self._process.stdin.closed:
                raise LabError("the lab is closed")
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
            except BrokenPipeError as error:
                raise LabError(SUPERVISOR_GONE) from error
            return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LabError(SUPERVISOR_GONE)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LabError(f"the lab's supervisor: {answer['error']}")
        return answer


@dataclass
class Server:
    """One server process. Its ports and its data stay the same over restarts.

    `probe` does a real request and raises `NotReadyError` while the server does not answer it.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    log_path: Path
    supervisor: Supervisor
    probe: Callable[[], None]
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    pid: int | None = None
    failed: bool = False

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self.pid is not None and self.supervisor.returncode(self.pid) is None

    @property
    def died(self) -> bool:
        """Whether the process ended though nobody asked it to."""
        return self.pid is not None and not self.running

    def start(self, *, wait: bool = True) -> None:
        """Start the process and, with `wait`, return when it serves. Does nothing to a running process."""
        if not self.running:
            self.pid = self.supervisor.start(self.argv, self.cwd, self.env, self.log_path)
        if wait:
            self.wait_ready()

    def kill(self) -> None:
        """End the process at once (SIGKILL); returns when it is gone."""
        self._end(SIGKILL, DIE_SECONDS)

    def stop(self, timeout_seconds: float = DIE_SECONDS) -> None:
        """Ask the process to end (SIGTERM) and kill it when it has not by the deadline."""
        self._end(SIGTERM, timeout_seconds)

    def restart(self, *, wait: bool = True) -> None:
        self.stop()
        self.start(wait=wait)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP); returns when all of it stands still."""
        self._signal(SIGSTOP)
        deadline = time.monotonic() + DIE_SECONDS
        while self._state() not in "TX":
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} did not stop on SIGSTOP")
            time.sleep(POLL_SECONDS / 10)

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT). See `wait_ready` for when it serves again."""
        self._signal(SIGCONT)

    def wait_ready(self, timeout_seconds: float = START_SECONDS, siblings: Sequence["Server"] = ()) -> None:
        """Return when a real request succeeded.

        Raises `ServerFailedError` when this process or one of its siblings died, or at the deadline.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            for server in (self, *siblings):
                if server.died:
                    server.failed = True
                    raise server.failure("ended while it was to become ready")
            try:
                self.probe()
            except NotReadyError as reason:
                if time.monotonic() > deadline:
                    self.failed = True
                    raise self.failure(f"was not ready after {timeout_seconds:.0f} s ({reason})") from reason
                time.sleep(POLL_SECONDS)
            else:
                return

    def failure(self, problem: str) -> ServerFailedError:
        taken = any(sign in line for line in tail_of(self.log_path, 200) for sign in PORT_TAKEN_SIGNS)
        return (PortTakenError if taken else ServerFailedError)(self.name, problem, self.log_path)

    def _end(self, signal: Signals, timeout_seconds: float) -> None:
        pid = self.pid
        if pid is None:
            return
        self.supervisor.signal(pid, signal)
        self.supervisor.signal(pid, SIGCONT)  # a paused process takes no SIGTERM
        deadline = time.monotonic() + timeout_seconds
        while self.supervisor.returncode(pid) is None:
            if time.monotonic() > deadline:
                if signal == SIGKILL:
                    raise LabError(f"{self.name} (pid {pid}) survives SIGKILL")
                self._end(SIGKILL, DIE_SECONDS)
                return
            time.sleep(POLL_SECONDS / 10)
        self.pid = None

    def _signal(self, signal: Signals) -> None:
        if self.pid is None:
            raise LabError(f"{self.name} is not running")
        self.supervisor.signal(self.pid, signal)

    def _state(self) -> str:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return "X"
        return stat.rpartition(")")[2].split()[0]
