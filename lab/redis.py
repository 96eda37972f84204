"""Redis: one server that keeps what it was told over a kill."""

import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from lab import tools
from lab.errors import NotReadyError
from lab.process import Server
from lab.service import Room, Service

PROBE_SECONDS = 5.0


class Redis(Service):
    """A Redis server. `config` adds to its redis.conf; a `requirepass` in it becomes part of the address."""

    name: ClassVar[str] = "redis"

    def __init__(self, room: Room, config: Mapping[str, str] | None = None) -> None:
        super().__init__(room)
        self._config = dict(config or {})
        self._port = 0

    @property
    def address(self) -> str:
        password = self._config.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self._port}"

    @property
    def server(self) -> Server:
        return self.servers[0]

    def _set_up(self, folder: Path) -> tuple[Server, ...]:
        self._port = self.room.ports.take()
        conf = folder / "redis.conf"
        conf.write_text("".join(f"{key} {value}\n" for key, value in (self._settings(folder) | self._config).items()))
        argv = [tools.redis_server(), str(conf)]
        return (self.room.server("redis", argv, folder, partial(probe_redis, self.address)),)

    def _settings(self, folder: Path) -> dict[str, str]:
        return {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(folder),
            # Each write is in the kernel before its answer goes out: a kill loses none.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }


def probe_redis(url: str) -> None:
    """Send a PING; raise `NotReadyError` unless it is answered, which it isn't while data is loaded."""
    try:
        answer = ask_redis(url, "PING")
    except OSError as error:
        raise NotReadyError(f"{url}: {error}") from error
    if answer != "+PONG":
        raise NotReadyError(f"{url} answers {answer or 'nothing'}")


def ask_redis(url: str, *command: str) -> str:
    """Send one command and return the first line of the answer, as the protocol has it. Raises `OSError`."""
    at = urlsplit(url)
    login = [("AUTH", at.password)] if at.password else []
    line = b""
    with (
        socket.create_connection((at.hostname, at.port or 0), timeout=PROBE_SECONDS) as connection,
        connection.makefile("rb") as answers,
    ):
        for words in (*login, command):
            sizes = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{sizes}".encode())
            line = answers.readline()
    return line.decode(errors="replace").strip()
