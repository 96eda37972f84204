"""What every kind of server in the lab has in common."""

import asyncio
import shutil
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lab.errors import PortTakenError
from lab.ports import Ports
from lab.process import Server, Supervisor

BIND_ATTEMPTS = 3
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


class Service(ABC):
    """One or more server processes that serve together at one address."""

    name: ClassVar[str]
    servers: tuple[Server, ...] = ()

    def __init__(self, room: Room) -> None:
        self.room = room

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client is told to connect to."""

    @abstractmethod
    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        """Take ports, write configuration and data into the empty folder, and describe the servers."""

    def start(self) -> None:
        """Start all servers at once and return when each answers real requests."""
        for attempt in range(1, BIND_ATTEMPTS + 1):
            folder = self.room.data / self.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.servers = self._set_up(folder)
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

    def stop(self) -> None:
        """Stop all servers, in order and with time to finish what they do."""
        for server in self.servers:
            server.stop(STOP_SECONDS)


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
