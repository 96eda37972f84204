"""What every kind of server in the lab has in common."""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from lab import jars, tools
from lab.errors import LabError, PortTakenError, tail_of
from lab.ports import Ports
from lab.process import Server, Supervisor

BIND_ATTEMPTS = 3
FORMAT_SECONDS = 120
STOP_SECONDS = 60.0


class Room:
    """A lab's folder, ports and supervisor: what a service needs to set up its servers."""

    def __init__(self, supervisor: Supervisor, ports: Ports) -> None:
        self.supervisor = supervisor
        self.ports = ports
        self.directory = supervisor.directory
        self.data = self.directory / "data"
        self.logs = self.directory / "logs"
        self.temporary = self.directory / "tmp"
        for folder in (self.data, self.logs, self.temporary):
            folder.mkdir(exist_ok=True)

    def server(self, name: str, argv: Sequence[str], folder: Path, probe: Callable[[], None]) -> Server:
        """Describe a server process that runs in `folder`; it isn't started."""
        return Server(name, argv, folder, self.logs / f"{name}.log", self.supervisor, probe)

    def java(self, home: Path, *options: str, conf: Path | None = None) -> list[str]:
        """Return the start of a JVM's command line, up to the main class, with the jars in `home`."""
        # No perf data and an own temp folder: a killed JVM leaves files in /tmp otherwise.
        own = ("-XX:-UsePerfData", f"-Djava.io.tmpdir={self.temporary}", "-Djava.net.preferIPv4Stack=true")
        # One order always, and the only folder last: an archive of classes fits no other path.
        classpath = [*sorted((home / "lib").glob("*.jar")), *([conf] if conf else [])]
        return [tools.java(), *own, *options, "-cp", os.pathsep.join(str(entry) for entry in classpath)]


class Service(ABC):
    """One or more server processes that serve together at one address."""

    name: ClassVar[str]
    servers: tuple[Server, ...] = ()

    def __init__(self, room: Room) -> None:
        self.room = room
        self._archives: Path | None = None
        self._recording = False

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client is told to connect to."""

    @abstractmethod
    def _set_up(self, home: Path, folder: Path) -> tuple[Server, ...]:
        """Take ports, write configuration and data into the empty folder, and describe the servers.

        `home` is the folder of the jars.
        """

    def start(self) -> None:
        """Start all servers at once and return when each answers real requests."""
        home = jars.ensure(self.name)
        self._archives = self.template(home, f"classes-{tools.java_fingerprint()}", partial(self._record, home))
        self._start_servers(home)

    def stop(self) -> None:
        """Stop all servers, in order and with time to finish what they do."""
        for server in self.servers:
            server.stop(STOP_SECONDS)

    def archive_options(self, kind: str) -> list[str]:
        """Return the JVM options by which servers of a kind share their loaded classes on disk.

        It halves what a start costs. A JVM that finds the archive unfit ignores it.
        """
        if self._archives is None:
            return []
        archive = self._archives / f"{kind}.jsa"
        if self._recording:
            return [f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []

    def _record(self, home: Path, archives: Path) -> None:
        jars.progress(f"preparing {self.name} for quick starts, once …")
        trainee = type(self)(self.room)
        trainee._archives, trainee._recording = archives, True  # noqa: SLF001 - one of our own
        trainee._start_servers(home)  # noqa: SLF001
        trainee.stop()
        for server in trainee.servers:
            server.log_path.unlink()

    def _start_servers(self, home: Path) -> None:
        for attempt in range(1, BIND_ATTEMPTS + 1):
            folder = self.room.data / self.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.servers = self._set_up(home, folder)
            try:
                for server in self.servers:
                    server.start(wait=False)
                for server in self.servers:
                    server.wait_ready(siblings=self.servers)
            except BaseException as failure:
                for server in self.servers:
                    server.kill()
                if not isinstance(failure, PortTakenError) or attempt == BIND_ATTEMPTS:
                    raise
                for server in self.servers:
                    server.log_path.unlink()
            else:
                return

    def template(self, home: Path, key: str, make: Callable[[Path], None]) -> Path:
        """Return a folder that `make` filled once for all labs, such as a freshly formatted disk.

        `key` must change with everything that goes into it besides the jars in `home`.
        """
        made = home / f"template-{key}"
        with jars.locked(home / f"template-{key}.lock"):
            if not made.exists():
                being_made = made.with_suffix(".new")
                shutil.rmtree(being_made, ignore_errors=True)
                being_made.mkdir()
                make(being_made)
                being_made.rename(made)
        return made

    def run_tool(self, argv: Sequence[str], folder: Path) -> None:
        """Run a program of this service to its end, such as one that formats a disk."""
        log_path = self.room.logs / f"{self.name}-format.log"
        with log_path.open("ab") as log:
            done = subprocess.run(
                argv, cwd=folder, stdout=log, stderr=subprocess.STDOUT, timeout=FORMAT_SECONDS, check=False
            )
        if done.returncode != 0:
            tail = "\n".join(f"  | {line}" for line in tail_of(log_path))
            raise LabError(f"{self.name}: formatting failed; the last lines of {log_path}:\n{tail}")


def run_apart(request: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in a loop and thread of its own, so that callers inside a running loop can probe too."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(request())
        except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(failure)

    thread = threading.Thread(target=run, name="lab-probe")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def accepts(address: str) -> bool:
    """Return whether something listens at host:port. Cheap enough to ask before a client library is bothered."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False
