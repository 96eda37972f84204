"""A view, a membership and peers held in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from starlette.applications import Starlette

from app.metrics import Metrics
from app.web.api import build_app
from app.web.errors import PeerError
from app.web.history import History
from app.web.peers import PEER_PATH, Peers
from app.web.wire import REPLY_DECODER, Ask, Reply
from domain.spec import EventTime, KeyField, KeyType, TableSpec, TimeFormat, TopicSpec
from tables.view import AsOf, CellCount, PartitionStatus, WindowCount

MINUTE = 60_000
TOPIC = TopicSpec("clicks", EventTime(TimeFormat.EPOCH_MS, "ts"))
VIEWS = TableSpec(
    "page_views", "clicks", (KeyField("page"),), window_ms=MINUTE, grace_ms=MINUTE, retention_ms=9 * MINUTE
)
PAIRS = TableSpec("pairs", "clicks", (KeyField("page"), KeyField("user", KeyType.INT)), window_ms=MINUTE)
TABLES = {VIEWS.name: VIEWS, PAIRS.name: PAIRS}
TOPICS = {TOPIC.name: TOPIC}

Cells = dict[bytes, tuple[int, int]]


@dataclass
class FakePartition:
    """One partition of every table; `cells` and the rest by table name."""

    next_offset: int = 100
    stream_time_ms: int | None = 0
    end_offset: int | None = 100
    state: str = "running"
    cells: dict[str, dict[int, Cells]] = field(default_factory=dict)
    expired: dict[int, int] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    tallies: dict[str, int] = field(default_factory=dict)
    hbase_next_offset: int | None = None
    events_next_offset: int | None = None


class FakeView:
    """`TableView` over plain dicts. `before_read` runs first in each read of data."""

    def __init__(self, partitions: Mapping[int, FakePartition], topic: str = "clicks") -> None:
        self.held = dict(partitions)
        self.topic = topic
        self.before_read: Callable[[int], None] = lambda _: None

    def partitions(self) -> list[PartitionStatus]:
        return [
            PartitionStatus(
                self.topic,
                n,
                p.state,
                p.next_offset,
                p.end_offset,
                None,
                p.stream_time_ms,
                7,
                12,
                p.hbase_next_offset,
                p.events_next_offset,
            )
            for n, p in self.held.items()
        ]

    def owned(self, table: str) -> list[int]:
        assert table in TABLES
        return [n for n, p in self.held.items() if p.state != "restoring"]

    def as_of(self, table: str, partition: int) -> AsOf:
        held = self.held[partition]
        return AsOf(self.topic, partition, held.next_offset, held.stream_time_ms)

    def tallies(self, table: str, partition: int) -> dict[str, int]:
        self.before_read(partition)
        return self.held[partition].tallies

    def windows(self, table: str, partition: int, from_ms: int, to_ms: int) -> list[WindowCount]:
        self.before_read(partition)
        held = self.held[partition]
        cells = held.cells.get(table, {})
        starts = sorted(s for s in {*cells, *held.expired} if from_ms <= s < to_ms)
        return [
            WindowCount(
                start,
                sum(on_time for on_time, _ in cells.get(start, {}).values()),
                sum(late for _, late in cells.get(start, {}).values()),
                held.expired.get(start, 0),
                held.next_offset - 1,
                start in held.partial,
                start in held.dropped,
                start in held.lost,
            )
            for start in starts
        ]

    def top(self, table: str, partition: int, start_ms: int, count: int) -> list[CellCount]:
        self.before_read(partition)
        return largest(self._window(table, partition, start_ms), count)

    def cells(self, table: str, partition: int, start_ms: int, keys: Sequence[bytes]) -> list[CellCount]:
        window = self._window(table, partition, start_ms)
        return [CellCount(key, *window[key]) for key in keys if key in window]

    def series(self, table: str, partition: int, key: bytes, from_ms: int, to_ms: int) -> list[tuple[int, CellCount]]:
        held = self.held[partition]
        return [
            (start, CellCount(key, *cells[key]))
            for start, cells in sorted(held.cells.get(table, {}).items())
            if from_ms <= start < to_ms and key in cells and start not in held.dropped
        ]

    def _window(self, table: str, partition: int, start_ms: int) -> Cells:
        held = self.held[partition]
        return {} if start_ms in held.dropped else held.cells.get(table, {}).get(start_ms, {})


def largest(cells: Cells, count: int) -> list[CellCount]:
    ordered = sorted(
        (CellCount(key, *value) for key, value in cells.items()), key=lambda c: (-c.on_time - c.late, c.key)
    )
    return ordered[:count]


@dataclass
class FakeMembership:
    self_url: str
    owned: dict[str, dict[str, list[int]]]
    counts: dict[str, int]

    def owners(self) -> dict[str, dict[str, list[int]]]:
        return self.owned

    def partition_count(self, topic: str) -> int | None:
        return self.counts.get(topic)


class AppPeers:
    """Peers in this process; a URL without an app is unreachable."""

    def __init__(self, apps: dict[str, Starlette], headers: dict[str, str] | None = None) -> None:
        self.apps = apps
        self.headers = headers or {}
        self.asked: list[str] = []

    async def ask(self, url: str, ask: Ask) -> Reply:
        self.asked.append(url)
        if url not in self.apps:
            raise PeerError(url, "unreachable")
        async with client_of(self.apps[url], self.headers) as client:
            response = await client.post(PEER_PATH, content=msgspec.msgpack.encode(ask))
        if response.status_code != 200:
            raise PeerError(url, f"answered with status {response.status_code}")
        return REPLY_DECODER.decode(response.content)

    async def close(self) -> None:
        self.apps = {}


def client_of(app: Starlette, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker", headers=headers)


@dataclass
class Group:
    """Workers that ask each other in memory; `claims` says who the membership thinks owns what."""

    views: dict[str, FakeView]
    apps: dict[str, Starlette]
    peers: AppPeers
    membership: dict[str, FakeMembership]
    metrics: Metrics

    async def get(self, path: str, at: str = "http://a", **params: Any) -> httpx.Response:
        async with client_of(self.apps[at], self.peers.headers) as client:
            return await client.get(path, params={name.rstrip("_"): value for name, value in params.items()} or None)

    async def json(self, path: str, at: str = "http://a", **params: Any) -> Any:
        response = await self.get(path, at, **params)
        assert response.status_code == 200, response.text
        return response.json()

    async def error(self, status: int, path: str, at: str = "http://a", **params: Any) -> Any:
        response = await self.get(path, at, **params)
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert set(error) == {"what", "why", "fix"}
        return error


def group(
    workers: Mapping[str, Mapping[int, FakePartition]],
    *,
    partitions: int,
    claims: dict[str, dict[str, list[int]]] | None = None,
    token: str | None = None,
    idle: Callable[[str, int], bool] | None = None,
    ready: Callable[[], str | None] = lambda: None,
    peers: Peers | None = None,
    history: History | None = None,
) -> Group:
    views = {url: FakeView(held) for url, held in workers.items()}
    owned = claims or {url: {TOPIC.name: list(held)} for url, held in workers.items()}
    in_memory = AppPeers({}, {"Authorization": f"Bearer {token}"} if token else None)
    metrics = Metrics()
    members = {url: FakeMembership(url, owned, {TOPIC.name: partitions}) for url in workers}
    for url, view in views.items():
        in_memory.apps[url] = build_app(
            view,
            TABLES,
            TOPICS,
            members[url],
            metrics,
            ready,
            token,
            idle=idle,
            peers=peers or in_memory,
            history=history,
        )
    assert all(urlsplit(url).scheme == "http" for url in workers)
    return Group(views, dict(in_memory.apps), in_memory, members, metrics)
