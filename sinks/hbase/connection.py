"""Connections to HBase's Thrift server: happybase, with the guards it lacks.

A connection that failed in any way is thrown away: after a time-out its next answer may be another question's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from thriftpy2.protocol import TBinaryProtocol
from thriftpy2.protocol.cybin import ProtocolError
from thriftpy2.thrift import TClient, TException
from thriftpy2.transport import TTransportException

from domain.errors import SinkUnavailableError
from sinks.hbase.thrift import AlreadyExists, Hbase, HBaseIOError, IllegalArgument, happybase

TIMEOUT_S = 15.0
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

    def _refresh_thrift_client(self) -> None:
        super()._refresh_thrift_client()
        self.client = TClient(Hbase, CheckedProtocol(self.transport, decode_response=False))


class Pool:
    """Connections to Thrift servers, made as needed; as many as there are callers at one time. Thread safe.

    The servers of one HBase are equal: after a failure new connections go to the next one.
    """

    def __init__(
        self, *addresses: str, timeout_s: float = TIMEOUT_S, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses = addresses
        self._turn = 0
        self._timeout_ms = int(timeout_s * 1000)
        self._now_s = now_s
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Connection]] = []
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of one's own for the block.

        Whatever the block raises, its connection is closed. What server or network did comes out as
        `SinkUnavailableError`: whether a write was done is then unknown. `AlreadyExists` passes as it is.
        """
        turn = self._turn
        try:
            connection = self._take(turn)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(connection)
        except AlreadyExists:
            raise
        except FAILURES as err:
            self._turn = turn + 1
            raise SinkUnavailableError(f"HBase at {self._address(turn)}", reason_of(err)) from err

    def close(self) -> None:
        """Close idle connections; one in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _address(self, turn: int) -> str:
        return self._addresses[turn % len(self._addresses)]

    def _take(self, turn: int) -> Connection:
        while True:
            with self._lock:
                since, connection = self._idle.pop() if self._idle else (0.0, None)
            if connection is None:
                host, _, port = self._address(turn).rpartition(":")
                return Connection(host.strip("[]"), int(port), timeout=self._timeout_ms)
            if self._now_s() - since < IDLE_MAX_S:
                return connection
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append((self._now_s(), connection))
                return
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
