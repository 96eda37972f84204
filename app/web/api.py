"""The routes: read the request, ask the owners, shape the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import msgspec
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.metrics import Metrics
from app.web import answers, shapes
from app.web.auth import RequireToken
from app.web.errors import RequestError
from app.web.gather import Gatherer, Membership
from app.web.history import History, gone, not_found, past_series, past_window
from app.web.local import Idle, LocalReader
from app.web.openapi import document
from app.web.params import (
    check_names,
    is_local,
    key_of,
    range_of,
    start_of,
    table_named,
    top_of,
)
from app.web.peers import MSGPACK, HttpPeers, Peers
from app.web.query import cover_statuses, stream_time_ms
from app.web.reply import json_response
from app.web.wire import ASK_DECODER, Ask, PositionsAsk, SeriesAsk, StatusAsk, TalliesAsk, TopAsk, WindowsAsk
from domain.spec import TableSpec, TopicSpec
from tables.view import TableView

ASK_BYTES_MAX = 64 << 20


class AnyText(Convertor[str]):
    """The rest of a path, line feeds too: Starlette's own `path` stops at them."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class Api:
    """One method per route."""

    def __init__(
        self,
        local: LocalReader,
        gatherer: Gatherer,
        membership: Membership,
        tables: Mapping[str, TableSpec],
        topics: Mapping[str, TopicSpec],
        history: History | None = None,
    ) -> None:
        self._local = local
        self._gatherer = gatherer
        self._membership = membership
        self._tables = tables
        self._topics = topics
        self._history = history

    def routes(self) -> list[Route]:
        register_url_convertor("anytext", AnyText())  # idempotent
        return [
            Route("/api/v1/tables", self.list_tables),
            Route("/api/v1/tables/{table}", self.table),
            Route("/api/v1/tables/{table}/windows", self.windows),
            Route("/api/v1/tables/{table}/windows/{start}", self.window),
            Route("/api/v1/tables/{table}/keys/{key:anytext}", self.key),
            Route("/api/v1/partitions", self.partitions),
            Route("/api/v1/tallies", self.tallies),
            Route("/api/v1/local", self.local, methods=["POST"]),
        ]

    async def list_tables(self, request: Request) -> Response:
        check_names(request)
        return json_response(answers.Tables([self._info(table) for _, table in sorted(self._tables.items())]))

    async def table(self, request: Request) -> Response:
        check_names(request, "scope")
        table = self._table(request)
        ask = TalliesAsk(table.name)
        if is_local(request):
            return await self._raw(ask)
        covered = await self._gatherer.table(ask)
        return json_response(shapes.table_detail(self._info(table), covered))

    async def windows(self, request: Request) -> Response:
        check_names(request, "from", "to", "scope")
        table = self._table(request)
        from_ms, to_ms = await self._range(table, request)
        ask = WindowsAsk(table.name, from_ms, to_ms)
        if is_local(request):
            return await self._raw(ask)
        covered = await self._gatherer.table(ask)
        return await _built(lambda: shapes.windows(table, covered, from_ms, to_ms))

    async def window(self, request: Request) -> Response:
        check_names(request, "top", "scope")
        table = self._table(request)
        start_ms, wanted = start_of(request, table), top_of(request)
        if is_local(request):
            return await self._raw(TopAsk(table.name, start_ms, wanted))
        covered, top = await self._gatherer.top(table.name, start_ms, wanted)
        if gone(table, covered, start_ms):
            past = await past_window(self._history, table, start_ms, wanted)
            if past is not None:
                return await _built(lambda: shapes.past_window_detail(table, covered, start_ms, past))
            if shapes.dropped_starts(covered):
                raise not_found(table, start_ms, configured=self._history is not None)
        return await _built(lambda: shapes.window_detail(table, covered, start_ms, top))

    async def key(self, request: Request) -> Response:
        check_names(request, "from", "to", "key_base64", "scope")
        table = self._table(request)
        key = key_of(request, table)
        from_ms, to_ms = await self._range(table, request)
        ask = SeriesAsk(table.name, key, from_ms, to_ms)
        if is_local(request):
            return await self._raw(ask)
        covered = await self._gatherer.table(ask)
        past = await past_series(self._history, table, key, shapes.past_starts(covered))
        return await _built(lambda: shapes.key_series(table, covered, key, from_ms, to_ms, past))

    async def partitions(self, request: Request) -> Response:
        check_names(request, "scope")
        if is_local(request):
            return await self._raw(StatusAsk())
        sources = await self._gatherer.statuses()
        counts = {topic: self._membership.partition_count(topic) for topic in self._topics}
        return json_response(shapes.partitions(cover_statuses(sources, self._membership.owners(), counts)))

    async def tallies(self, request: Request) -> Response:
        check_names(request, "table")
        name = request.query_params.get("table")
        wanted = sorted(self._tables) if name is None else [table_named(self._tables, name).name]
        covered = await asyncio.gather(*(self._gatherer.table(TalliesAsk(one)) for one in wanted))
        tables = [shapes.table_tallies(self._tables[n], c) for n, c in zip(wanted, covered, strict=True)]
        return json_response(answers.Tallies(all(c.complete for c in covered), tables))

    async def local(self, request: Request) -> Response:
        """What another worker asks: this worker's own answers, so a question never travels twice."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > ASK_BYTES_MAX:
                raise RequestError(413, "question too long", f"it exceeds {ASK_BYTES_MAX} bytes", "ask for fewer keys")
        try:
            ask = ASK_DECODER.decode(body)
        except msgspec.DecodeError as err:
            raise RequestError(400, "not a question", str(err), "this route is for workers of one version") from err
        if not isinstance(ask, StatusAsk):
            table_named(self._tables, ask.table)
        reply = await self._local.answer(ask)
        return Response(await asyncio.to_thread(msgspec.msgpack.encode, reply), media_type=MSGPACK)

    def _table(self, request: Request) -> TableSpec:
        return table_named(self._tables, request.path_params["table"])

    def _info(self, table: TableSpec) -> answers.Table:
        return shapes.table_info(table, self._membership.partition_count(table.topic))

    async def _range(self, table: TableSpec, request: Request) -> tuple[int, int]:
        asked = range_of(request)
        if asked.to_ms is not None:
            return asked.resolve(table, None)
        ask = PositionsAsk(table.name)
        if is_local(request):
            return asked.resolve(table, stream_time_ms((await self._local.answer(ask)).answers))
        return asked.resolve(table, stream_time_ms((await self._gatherer.table(ask)).answers.values()))

    async def _raw(self, ask: Ask) -> Response:
        return json_response(await self._local.answer(ask))


def build_app(
    view: TableView,
    tables: Mapping[str, TableSpec],
    topics: Mapping[str, TopicSpec],
    membership: Membership,
    metrics: Metrics,
    ready: Callable[[], str | None],
    token: str | None = None,
    *,
    idle: Idle | None = None,
    peers: Peers | None = None,
    history: History | None = None,
) -> Starlette:
    """The whole HTTP side of one worker. `ready` gives None or why not; `idle` says if a partition is idle.

    Windows gone from the state are asked of `history`. The app owns `peers`, `history` and its reader threads
    and closes them at lifespan shutdown.
    """
    local = LocalReader(view, tables, idle)
    asked = peers or HttpPeers(token)
    api = Api(local, Gatherer(local, asked, membership, tables), membership, tables, topics, history)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        local.close()
        await asked.close()
        if history is not None:
            await history.close()

    app = Starlette(
        routes=[*api.routes(), *_root_routes(view, metrics, ready)],
        exception_handlers={
            RequestError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _fault,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    if token:
        app.add_middleware(RequireToken, token=token)
    return app


def _root_routes(view: TableView, metrics: Metrics, ready: Callable[[], str | None]) -> list[Route]:
    async def healthz(_: Request) -> Response:
        return json_response(answers.Status("ok"))

    async def readyz(_: Request) -> Response:
        reason = ready()
        if reason is None:
            return json_response(answers.Status("ready"))
        return json_response(answers.Status("not ready", reason), 503)

    async def prometheus(_: Request) -> Response:
        metrics.partitions(view.partitions())
        return Response(metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(_: Request) -> Response:
        return json_response(document())

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", prometheus),
        Route("/openapi.json", openapi),
    ]


async def _built(build: Callable[[], msgspec.Struct]) -> Response:
    return await asyncio.to_thread(lambda: json_response(build()))


def _error(status: int, what: str, why: str, fix: str) -> Response:
    return json_response(answers.ErrorBody(answers.Problem(what, why, fix)), status)


async def _refused(_: Request, err: Exception) -> Response:
    assert isinstance(err, RequestError)
    return _error(err.status, err.what, err.why, err.fix)


async def _http_error(request: Request, err: Exception) -> Response:
    assert isinstance(err, HTTPException)
    response = _error(
        err.status_code, err.detail, f"{request.method} here isn't a route of this service", "see /openapi.json"
    )
    response.headers.update(err.headers or {})
    return response


async def _gone(_: Request, err: Exception) -> Response:
    return _error(400, "question cut off", type(err).__name__, "send it again")


async def _fault(_: Request, err: Exception) -> Response:
    return _error(500, "internal error", type(err).__name__, "the worker's log has the details; please report it")
