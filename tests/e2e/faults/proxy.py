"""Stands between workers and brokers, and does what a network may do to the end of a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

END_TXN = 26
LENGTH = struct.Struct(">i")
REQUEST = struct.Struct(">hhih")  # api key, its version, correlation id, length of the client's id
ANSWER = struct.Struct(">iih")  # of EndTxn: correlation id, throttle time, error code
CLOSE_S = 10.0


class Fate(Enum):
    """What becomes of one EndTxn request."""

    LOSE_REQUEST = auto()  # the broker never gets it
    LATE_REQUEST = auto()  # the broker gets it after `Proxies.release`
    CUT_LATE = auto()  # the same, and the client's connection breaks at once
    CUT_BEFORE = auto()  # the connection breaks before the broker gets it
    LOSE_ANSWER = auto()  # the broker did it, and nobody hears of it
    DELAY_ANSWER = auto()  # the same, but for a while only
    CUT_AFTER = auto()  # the connection breaks after the broker did it


LATE = frozenset({Fate.LATE_REQUEST, Fate.CUT_LATE})
BEFORE = LATE | {Fate.LOSE_REQUEST, Fate.CUT_BEFORE}


@dataclass(eq=False)
class Met:
    """A fate that an EndTxn request met; `error` is what the broker said to it, None if it said nothing yet."""

    fate: Fate
    transactional_id: str
    delay_s: float
    error: int | None = None


@dataclass
class _Connection:
    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    asked: dict[int, Met] = field(default_factory=dict)  # by correlation id
    client_gone: bool = False

    def cut(self) -> None:
        self.client.transport.abort()
        self.broker.transport.abort()


class Proxies:
    """One listener per broker, in a thread of their own. `ports` are there at once, brokers by `forward_to`."""

    straight: str  # to the brokers, past the proxies

    def __init__(self, count: int) -> None:
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self.ports: list[int] = [one.getsockname()[1] for one in self._sockets]
        self._behind: Sequence[int] = ()
        self._fates: dict[str, deque[tuple[Fate, float]]] = {}
        self._met: list[Met] = []
        self._passed = 0
        self._held: list[tuple[_Connection, bytes]] = []
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    @property
    def met(self) -> list[Met]:
        return list(self._met)

    @property
    def passed(self) -> int:
        """EndTxn requests that nothing was done to."""
        return self._passed

    def forward_to(self, behind: Sequence[int]) -> None:
        self._behind = behind

    def arm(self, transactional_id: str, *fates: Fate, delay_s: float = 0.0) -> None:
        """The next EndTxn requests of a producer meet these, in order."""
        self._fates.setdefault(transactional_id, deque()).extend((fate, delay_s) for fate in fates)

    def release(self) -> int:
        """Let the requests that are late go on to their brokers; returns how many those were."""

        async def go() -> int:
            held, self._held = self._held, []
            for connection, frame in held:
                connection.broker.write(frame)
            return len(held)

        return asyncio.run_coroutine_threadsafe(go(), self._loop).result(CLOSE_S)

    def __enter__(self) -> Self:
        self._thread.start()

        async def listen() -> None:
            for number, one in enumerate(self._sockets):

                def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = number) -> None:
                    task = self._loop.create_task(self._serve(number, reader, writer))
                    self._serving.add(task)
                    task.add_done_callback(self._serving.discard)

                self._servers.append(await asyncio.start_server(connected, sock=one))

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(CLOSE_S)
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(2 * CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()

    # -- one connection --------------------------------------------------------------------------

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._behind[number])
        except OSError:  # it is dead: so is this connection
            writer.close()
            return
        connection = _Connection(writer, to_broker)
        pumps = [
            asyncio.create_task(self._requests(reader, connection)),
            asyncio.create_task(self._answers(from_broker, connection)),
        ]
        try:
            await pumps[0]
            connection.client_gone = True
            if connection.asked:  # what the broker says to it is still worth hearing
                await pumps[1]
        finally:
            for pump in pumps:
                pump.cancel()
            connection.cut()

    async def _requests(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                if self._goes_on(frame, connection):
                    connection.broker.write(frame)
                    await connection.broker.drain()

    def _goes_on(self, frame: bytes, connection: _Connection) -> bool:
        """Whether a request is passed to the broker now."""
        key, _, correlation_id, client_length = REQUEST.unpack_from(frame, LENGTH.size)
        if key != END_TXN:
            return True
        transactional_id = _string(frame, LENGTH.size + REQUEST.size + max(client_length, 0))
        fates = self._fates.get(transactional_id)
        if not fates:
            self._passed += 1
            return True
        fate, delay_s = fates.popleft()
        met = Met(fate, transactional_id, delay_s)
        self._met.append(met)
        if fate is Fate.CUT_BEFORE:
            connection.cut()
        elif fate is not Fate.LOSE_REQUEST:
            connection.asked[correlation_id] = met
            if fate in LATE:
                self._held.append((connection, frame))
            if fate is Fate.CUT_LATE:
                connection.client.transport.abort()
        return fate not in BEFORE

    async def _answers(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while connection.asked or not connection.client_gone:
                frame = await _frame(reader)
                met = connection.asked.pop(LENGTH.unpack_from(frame, LENGTH.size)[0], None)
                if met is None:
                    connection.client.write(frame)
                    await connection.client.drain()
                    continue
                _, _, met.error = ANSWER.unpack_from(frame, LENGTH.size)
                if met.fate is Fate.CUT_AFTER:
                    connection.cut()
                elif met.fate is Fate.DELAY_ANSWER:
                    self._loop.call_later(met.delay_s, connection.client.write, frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(LENGTH.size)
    return length + await reader.readexactly(LENGTH.unpack(length)[0])


def _string(frame: bytes, at: int) -> str:
    (length,) = struct.unpack_from(">h", frame, at)
    return frame[at + 2 : at + 2 + length].decode()
