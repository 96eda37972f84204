"""Connections to HBase's Thrift server: happybase, with the guards it lacks.

A connection that failed in any way is thrown away: after a time-out its next answer may be another question's.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from thriftpy2.protocol import TBinaryProtocol
from thriftpy2.protocol.cybin import ProtocolError
from thriftpy2.thrift import TClient, TException
from thriftpy2.transport import TSocket, TTransportException

from domain.errors import SinkUnavailableError
from sinks.hbase.thrift import AlreadyExists, Hbase, HBaseIOError, IllegalArgument, happybase

TIMEOUT_S = 15.0
CONNECT_MS = 5_000
IDLE_MAX_S = 40.0  # the server cuts connections idle for 60 s
REASON_CHARS = 300


# What the client raises for a server that fails, goes away, or speaks something else.
FAILURES = (TException, ProtocolError, OSError, EOFError, UnicodeDecodeError, MemoryError)


class WrongAnswerError(ConnectionError):
    """An answer to another question."""


class CheckedProtocol(TBinaryProtocol):  # type: ignore[misc] # the client has no types
    """Thrift's binary protocol with numbered questions; an answer must bear the name and number of the last one.

    The server echoes both (Thrift's TBaseProcessor); thriftpy2 numbers every question 0 and looks at neither.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._asked = ("", 0)

    def write_message_begin(self, name: str, kind: int, _seqid: int) -> None:
        self._asked = (name, self._asked[1] + 1)
        super().write_message_begin(name, kind, self._asked[1])

    def read_message_begin(self) -> tuple[str, int, int]:
        answer: tuple[str, int, int] = super().read_message_begin()
        name, _, number = answer
        if (name, number) != self._asked:
            raise WrongAnswerError(f"asked {self._asked[0]} ({self._asked[1]}), got an answer to {name} ({number})")
        return answer


class Connection(happybase.Connection):  # type: ignore[misc]
    """A happybase connection over `CheckedProtocol`. Not thread safe."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self.address = address
        self.idle_since_s = 0.0
        host, _, port = address.rpartition(":")
        super().__init__(host.strip("[]"), int(port), timeout=int(timeout_s * 1000))

    def _refresh_thrift_client(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        connect_ms = min(self.timeout, CONNECT_MS)
        to_server = TSocket(
            self.host, self.port, socket_family=family, socket_timeout=self.timeout, connect_timeout=connect_ms
        )
        self.transport = self._transport_class(to_server)
        self.client = TClient(Hbase, CheckedProtocol(self.transport, decode_response=False))


class Pool:
    """Connections to Thrift servers, made as needed; as many as there are callers at one time. Thread safe.

    The servers of one HBase are equal: one is used until it fails, then the next.
    """

    def __init__(
        self, *addresses: str, timeout_s: float = TIMEOUT_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses = addresses
        self._turn = 0
        self._timeout_s = timeout_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of one's own for the block.

        Whatever the block raises, its connection is closed. What server or network did comes out as
        `SinkUnavailableError`: whether a write was done is then unknown. `AlreadyExists` passes as it is.
        """
        address = self._addresses[self._turn % len(self._addresses)]
        try:
            connection = self._take() or Connection(address, self._timeout_s)
            address = connection.address
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)
        except AlreadyExists:
            raise
        except FAILURES as err:
            self._leave(address)  # also if it answered with an error: it may be cut off from HBase
            raise SinkUnavailableError(f"HBase at {address}", reason_of(err)) from err

    def close(self) -> None:
        """Close idle connections; one in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> Connection | None:
        """An idle connection that the server hasn't cut."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or self._now_s() - connection.idle_since_s < IDLE_MAX_S:
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                connection.idle_since_s = self._now_s()
                self._idle.append(connection)
                return
        connection.close()

    def _leave(self, address: str) -> None:
        """Ask another server from now on, and keep no connection to this one."""
        with self._lock:
            gone = [one for one in self._idle if one.address == address]
            self._idle = [one for one in self._idle if one.address != address]
            if self._addresses[self._turn % len(self._addresses)] == address:
                self._turn += 1
        for connection in gone:
            connection.close()


def reason_of(err: BaseException) -> str:
    """The server's words without its stack trace."""
    if isinstance(err, (HBaseIOError, IllegalArgument)):
        text = err.message.decode(errors="replace") if isinstance(err.message, bytes) else str(err.message)
    elif isinstance(err, TTransportException):
        text = str(err.message)
    else:
        text = str(err) or type(err).__name__
    return text.strip().split("\n", 1)[0][:REASON_CHARS]
