"""Real sockets: starting, stopping, and workers asking each other over HTTP."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.metrics import Metrics
from app.web.api import build_app
from app.web.auth import check_bind, is_loopback
from app.web.errors import PeerError
from app.web.peers import HttpPeers
from app.web.server import WebServer
from app.web.wire import Reply, TalliesAsk
from domain.errors import ConfigError
from tests.unit.app.web.fakes import TABLES, TOPICS, FakeMembership, FakePartition, FakeView


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[WebServer]:
    server = WebServer(app, "127.0.0.1", 0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Hung:
    """An app with one route that never answers, and a note of what became of it."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = False
        self.closed = False
        self.app = Starlette(routes=[Route("/", self.hang)], lifespan=self.lifespan)

    async def hang(self, _: Request) -> Response:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return PlainTextResponse("never")

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.closed = True


async def test_a_hung_request_delays_stop_by_about_a_second_at_most() -> None:
    hung = Hung()
    server = WebServer(hung.app, "127.0.0.1", 0)
    await server.start()
    async with aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.get(server.url))
        await asyncio.wait_for(hung.entered.wait(), 5)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 1.3
        assert hung.cancelled
        assert hung.closed
        with pytest.raises(aiohttp.ClientError):
            (await request).raise_for_status()


async def test_half_a_request_does_not_delay_stop() -> None:
    server = WebServer(Hung().app, "127.0.0.1", 0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    await writer.drain()
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 1.3
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_stop_without_requests_is_quick_and_frees_the_port() -> None:
    hung = Hung()
    server = WebServer(hung.app, "127.0.0.1", 0)
    await server.start()
    port = server.port
    await server.stop()
    await server.stop()
    assert hung.closed
    again = WebServer(Hung().app, "127.0.0.1", port)
    await again.start()
    await again.stop()


async def test_a_port_in_use_is_a_config_error_that_names_the_setting() -> None:
    async with serving(Hung().app) as server:
        with pytest.raises(ConfigError) as raised:
            await WebServer(Hung().app, "127.0.0.1", server.port).start()
    assert raised.value.setting == "web.bind"


async def test_the_server_leaves_signals_to_the_worker() -> None:
    assert threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    async with serving(Hung().app):
        assert {s: signal.getsignal(s) for s in before} == before


def worker_app(view: FakeView, membership: FakeMembership, token: str, *, peers: HttpPeers | None = None) -> Starlette:
    return build_app(view, TABLES, TOPICS, membership, Metrics(), lambda: None, token, peers=peers)


async def test_workers_answer_for_each_other_over_http_with_the_shared_token() -> None:
    owned: dict[str, dict[str, list[int]]] = {}
    members = [FakeMembership("", owned, {"clicks": 2}) for _ in range(2)]
    views = [FakeView({n: FakePartition(tallies={"on_time": 10 + n})}) for n in range(2)]
    async with (
        serving(worker_app(views[0], members[0], "secret")) as one,
        serving(worker_app(views[1], members[1], "secret")) as two,
        aiohttp.ClientSession(headers={"Authorization": "Bearer secret"}) as client,
    ):
        for n, server in enumerate((one, two)):
            members[n].self_url = server.url
            owned[server.url] = {"clicks": [n]}
        for server in (one, two):
            async with client.get(server.url + "/api/v1/tables/page_views") as response:
                answer = await response.json()
            assert (answer["complete"], answer["records"]) == (True, 21)
        await two.stop()
        async with client.get(one.url + "/api/v1/tables/page_views") as response:
            answer = await response.json()
        assert (answer["complete"], answer["missing"], answer["records"]) == (False, [1], 10)


async def test_a_silent_owner_is_missing_after_the_deadline() -> None:
    hung = Hung()
    hung.app.router.routes.append(Route("/api/v1/local", hung.hang, methods=["POST"]))
    membership = FakeMembership("http://self", {}, {"clicks": 2})
    async with serving(hung.app) as silent, aiohttp.ClientSession() as client:
        membership.owned = {"http://self": {"clicks": [0]}, silent.url: {"clicks": [1]}}
        peers = HttpPeers(deadline_s=0.05)
        app = build_app(
            FakeView({0: FakePartition()}), TABLES, TOPICS, membership, Metrics(), lambda: None, None, peers=peers
        )
        async with serving(app) as server, client.get(server.url + "/api/v1/tables/page_views") as response:
            answer = await response.json()
    assert answer["missing_why"] == {"1": f"{silent.url}: no answer within 0.05 s"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "not a url", "http://", "http://[::1"])
async def test_an_unusable_owner_url_is_a_peer_error(url: str) -> None:
    peers = HttpPeers()
    with pytest.raises(PeerError):
        await peers.ask(url, TalliesAsk("page_views"))
    await peers.close()


@pytest.mark.parametrize(("status", "body"), [(200, b"\xc1"), (200, b"<html>"), (401, b""), (302, b""), (500, b"")])
async def test_an_answer_that_is_not_ours_is_a_peer_error(status: int, body: bytes) -> None:
    async def strange(_: Request) -> Response:
        return Response(body, status, headers={"Location": "/elsewhere"})

    peers = HttpPeers("secret")
    async with serving(Starlette(routes=[Route("/api/v1/local", strange, methods=["POST"])])) as server:
        with pytest.raises(PeerError):
            await peers.ask(server.url, TalliesAsk("page_views"))
        await peers.close()


async def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else() -> None:
    asked: list[str] = []

    async def lure(request: Request) -> Response:
        asked.append(request.url.path)
        return Response(msgspec.msgpack.encode(Reply()), 307, headers={"Location": "/elsewhere"})

    peers = HttpPeers("secret")
    routes = [Route(path, lure, methods=["GET", "POST"]) for path in ("/api/v1/local", "/elsewhere")]
    async with serving(Starlette(routes=routes)) as server:
        with pytest.raises(PeerError, match="307"):
            await peers.ask(server.url, TalliesAsk("page_views"))
        await peers.close()
    assert asked == ["/api/v1/local"]


async def test_a_restarted_worker_is_reached_again_on_the_same_address() -> None:
    membership = FakeMembership("", {}, {"clicks": 1})
    view = FakeView({0: FakePartition()})
    peers = HttpPeers("secret")
    first = WebServer(worker_app(view, membership, "secret"), "127.0.0.1", 0)
    await first.start()
    await peers.ask(first.url, TalliesAsk("page_views"))
    await first.stop()
    second = WebServer(worker_app(view, membership, "secret"), "127.0.0.1", first.port)
    await second.start()
    assert len((await peers.ask(second.url, TalliesAsk("page_views"))).answers) == 1
    await peers.close()
    await second.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    check_bind(host, None, open_to_all=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "10.0.0.1", "worker-1"])
def test_any_other_address_needs_a_token_or_an_explicit_opt_out(host: str) -> None:
    with pytest.raises(ConfigError, match=r"web\.bind"):
        check_bind(host, None, open_to_all=False)
    check_bind(host, "secret", open_to_all=False)
    check_bind(host, None, open_to_all=True)
