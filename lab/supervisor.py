"""Parent process of all servers of one lab: it outlives a killed caller just long enough to clean up.

Run as a script with the standard library alone. The caller holds the other end of stdin; when that
closes, or the caller is gone in any other way, every server is killed and the lab's folder removed.
Requests and answers are JSON, one a line, in step.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
SERVERS_DIE_SECONDS = 20


class Supervisor:
    def __init__(self, parent_directory: str) -> None:
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.directory = tempfile.mkdtemp(prefix="recount-lab-", dir=parent_directory)
        self._remove = [self.directory]
        self._let_go_of_stderr()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one request; a failure is an answer too."""
        try:
            match request["op"]:
                case "start":
                    return {"pid": self._start(request)}
                case "signal":
                    # send_signal polls first: a reaped process is never signalled, nor a stranger with its id.
                    self._servers[request["pid"]].send_signal(request["signal"])
                    return {}
                case "poll":
                    return {"returncode": self._servers[request["pid"]].poll()}
                case "remove":
                    self._remove = request["paths"]
                    return {}
                case unknown:
                    return {"error": f"unknown request {unknown}"}
        except (OSError, KeyError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        """Kill and reap every server, then remove what is to be removed."""
        for server in self._servers.values():
            server.kill()
        for server in self._servers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(SERVERS_DIE_SECONDS)
        for path in self._remove:
            shutil.rmtree(path, ignore_errors=True)

    def _let_go_of_stderr(self) -> None:
        # Whoever reads the caller's stderr to its end must not wait for this process.
        logs = Path(self.directory, "logs")
        logs.mkdir()
        with (logs / "supervisor.log").open("ab") as log:
            os.dup2(log.fileno(), 2)

    def _start(self, request: dict[str, Any]) -> int:
        me = os.getpid()

        def die_with_supervisor() -> None:
            # For the case that the supervisor itself is killed. It has one thread, so its death is what counts.
            self._libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:
                os._exit(1)

        with Path(request["log"]).open("ab") as log:
            server = subprocess.Popen(
                request["argv"],
                cwd=request["cwd"],
                env=request["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_supervisor,  # noqa: PLW1509 - no threads here
            )
        self._servers[server.pid] = server
        return server.pid


def serve(supervisor: Supervisor, caller: int) -> None:
    """Answer requests until the caller closes the pipe or dies."""
    caller_gone = os.pidfd_open(caller)  # a fork of the caller may hold the pipe open after its death
    if os.getppid() != caller:
        return
    pending = b""
    while True:
        readable, _, _ = select.select([0, caller_gone], [], [])
        if 0 not in readable:
            return
        received = os.read(0, 65536)
        if not received:
            return
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            reply(supervisor.answer(json.loads(line)))


def reply(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> None:
    parent_directory, caller = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervisor = Supervisor(parent_directory)
    try:
        reply({"directory": supervisor.directory})
        serve(supervisor, caller)
    except BrokenPipeError:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        supervisor.close()


if __name__ == "__main__":
    main()
