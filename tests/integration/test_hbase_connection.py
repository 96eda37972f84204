"""The connections to Thrift: what happybase leaves unguarded, on a real server and on ones that misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import happybase
import pytest
from Hbase_thrift import AlreadyExists

from domain.errors import SinkUnavailableError
from sinks.hbase import connection as guarded
from sinks.hbase.connection import IDLE_MAX_S, Connection, Pool, WrongAnswerError
from tests.kafka import unique

TIMEOUT_MS = 300


class SlowProxy:
    """Stands between client and server; holds answers back while `holding` is set."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.holding = threading.Event()
        self._let_go = threading.Event()
        self.passed_on = threading.Event()  # a question went to the server
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def release(self) -> None:
        self.holding.clear()
        self._let_go.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._server)
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self.holding.is_set():
                    assert self._let_go.wait(30)
                target.sendall(data)
                if not answers:
                    self.passed_on.set()
        except OSError:
            pass
        finally:
            target.close()

    def close(self) -> None:
        self.release()
        self._listening.close()


@pytest.fixture
def proxy(hbase_thrift: str) -> Iterator[SlowProxy]:
    made = SlowProxy(hbase_thrift)
    yield made
    made.close()


@pytest.fixture
def table(hbase_thrift: str) -> str:
    """Two rows, `a` and `b`, whose one cell is the row's name."""
    name = unique("rows")
    with Pool(hbase_thrift).connection() as connection:
        connection.create_table(name, {"c": {}})
        for row in (b"a", b"b"):
            connection.table(name).put(row, {b"c:x": row})
    return name


def late_answer(connection: happybase.Connection, table: str, proxy: SlowProxy) -> None:
    """Ask for row `a` and give up; the answer comes afterwards."""
    proxy.holding.set()
    with pytest.raises(TimeoutError):
        connection.table(table).row(b"a")
    proxy.release()


def test_without_a_guard_the_next_answer_is_the_last_question_s(proxy: SlowProxy, table: str) -> None:
    """Why the guard is there: should the client ever check by itself, this fails, and the guard can go."""
    bare = happybase.Connection("127.0.0.1", proxy.port, timeout=TIMEOUT_MS)
    late_answer(bare, table, proxy)
    assert bare.table(table).row(b"b") == {b"c:x": b"a"}


def test_an_answer_to_another_question_is_not_taken(proxy: SlowProxy, table: str) -> None:
    connection = Connection(proxy.address, TIMEOUT_MS / 1000)
    late_answer(connection, table, proxy)
    with pytest.raises(WrongAnswerError, match=r"asked getRow\w* \(2\), got an answer to getRow\w* \(1\)"):
        connection.table(table).row(b"b")


def test_an_answer_of_another_kind_is_not_taken(proxy: SlowProxy, table: str) -> None:
    connection = Connection(proxy.address, TIMEOUT_MS / 1000)
    late_answer(connection, table, proxy)
    with pytest.raises(WrongAnswerError, match="asked getTableNames"):
        connection.tables()


def test_the_pool_throws_away_a_connection_that_timed_out(proxy: SlowProxy, table: str) -> None:
    pool = Pool(proxy.address, timeout_s=TIMEOUT_MS / 1000)
    proxy.holding.set()
    with pytest.raises(SinkUnavailableError, match="timed out"), pool.connection() as connection:
        connection.table(table).row(b"a")
    proxy.release()
    with pool.connection() as connection:
        assert connection.table(table).row(b"b") == {b"c:x": b"b"}
    assert proxy.connections == 2


def test_a_put_whose_answer_is_lost_was_done_and_may_be_done_again(proxy: SlowProxy, table: str) -> None:
    pool = Pool(proxy.address, timeout_s=TIMEOUT_MS / 1000)
    proxy.holding.set()
    for _ in range(2):
        with pytest.raises(SinkUnavailableError), pool.connection() as connection:
            connection.table(table).put(b"a", {b"c:x": b"new"}, timestamp=2**48 + 5)
    proxy.release()
    with pool.connection() as connection:
        assert connection.table(table).row(b"a", include_timestamp=True) == {b"c:x": (b"new", 2**48 + 5)}


def test_any_error_in_the_block_costs_the_connection(proxy: SlowProxy, table: str) -> None:
    pool = Pool(proxy.address)
    with pytest.raises(ZeroDivisionError), pool.connection():
        raise ZeroDivisionError
    with pytest.raises(SinkUnavailableError, match="nosuch"), pool.connection() as connection:
        connection.table("nosuch").row(b"a")
    with pytest.raises(AlreadyExists), pool.connection() as connection:
        connection.create_table(table, {"c": {}})
    with pool.connection() as connection:
        connection.table(table).row(b"a")
    assert proxy.connections == 4


def test_connections_are_used_again_until_they_have_idled_too_long(proxy: SlowProxy, table: str) -> None:
    now = [0.0]
    pool = Pool(proxy.address, now_s=lambda: now[0])

    def ask() -> None:
        with pool.connection() as connection:
            connection.table(table).row(b"a")

    for _ in range(5):
        ask()
        now[0] += IDLE_MAX_S - 1
    assert proxy.connections == 1
    now[0] += 2
    ask()
    assert proxy.connections == 2


def test_each_caller_has_a_connection_of_its_own(proxy: SlowProxy) -> None:
    pool = Pool(proxy.address)
    with pool.connection() as one, pool.connection() as two:
        assert one is not two
        two.tables()
    with pool.connection() as again:
        assert again in {one, two}
    pool.close()
    with pool.connection() as after:
        after.tables()
    assert not after.transport.is_open(), "closed when it comes back"


def test_after_a_failure_the_next_server_is_asked(proxy: SlowProxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        nobody = f"127.0.0.1:{closing.getsockname()[1]}"
    pool = Pool(nobody, proxy.address)
    with pytest.raises(SinkUnavailableError, match=nobody), pool.connection() as connection:
        connection.tables()
    with pool.connection() as connection:
        connection.tables()


def test_a_server_that_goes_away_is_left_with_all_its_connections(hbase_thrift: str) -> None:
    first, second = SlowProxy(hbase_thrift), SlowProxy(hbase_thrift)
    pool = Pool(first.address, second.address, timeout_s=TIMEOUT_MS / 1000)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(pool.connection()).tables()
    first.holding.set()
    with pytest.raises(SinkUnavailableError, match=first.address), pool.connection() as connection:
        connection.tables()
    for _ in range(3):
        with pool.connection() as connection:
            connection.tables()
    assert (first.connections, second.connections) == (4, 1)
    first.close()
    second.close()


def test_a_server_that_answers_with_errors_is_left_as_well(proxy: SlowProxy, hbase_thrift: str) -> None:
    pool = Pool(proxy.address, hbase_thrift)
    for address in (proxy.address, hbase_thrift, proxy.address):
        with pytest.raises(SinkUnavailableError, match=address), pool.connection() as connection:
            connection.table("nosuch").row(b"a")


def test_addresses_of_either_family() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        port = listening.getsockname()[1]
        Connection(f"[::1]:{port}", 1.0).close()
    with pytest.raises(SinkUnavailableError, match="Could not connect"), Pool(f"[::1]:{port}").connection():
        pass


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives each connection the next of these answers, whatever it asks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                client, _ = listening.accept()
                with client:
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol version"),
        (b"\x00" * 40, "protocol version"),
        (b"\x80\x01\x00\x02\x00\x00\x00\x03abc\x00\x00\x00\x01\x00", "got an answer to abc"),
        (b"\x80\x01\x00\x02\x00\x00\x00\x02\xff\xfe\x00\x00\x00\x01\x00", "got an answer to b'.*xff"),
        (b"\x80\x01\x00\x02\x7f\xff\xff\xffabc", "buffer"),
        (b"", "read 0 bytes"),
    ],
)
def test_a_server_that_speaks_something_else_is_unavailable(answer: bytes, reason: str) -> None:
    with answering(answer) as address:
        pool = Pool(address, timeout_s=5)
        with pytest.raises(SinkUnavailableError, match=reason) as raised, pool.connection() as connection:
            connection.tables()
    assert address in str(raised.value)


def test_the_guard_is_what_the_pool_hands_out(hbase_thrift: str) -> None:
    with Pool(hbase_thrift).connection() as connection:
        assert isinstance(connection.client._iprot, guarded.CheckedProtocol)
