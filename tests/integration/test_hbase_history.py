"""The API over a real HBase: windows whose keys have left the state."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.history import HBaseHistory
from app.metrics import Metrics
from app.web.api import build_app
from domain.errors import SinkUnavailableError
from domain.spec import TableSpec, fingerprint
from sinks.hbase.claim import Claimant
from tests.hbase_rows import Stranger, certificate, count, new_table_name, row_of
from tests.unit.app.web import fakes
from tests.unit.app.web.fakes import MINUTE, TOPIC, TOPICS, VIEWS, AppPeers, FakeMembership, FakePartition, FakeView

T0 = 1_700_000_040_000


@pytest.fixture
def table() -> TableSpec:
    return replace(VIEWS, name=new_table_name())


@pytest.fixture
def stranger(hbase_thrift: str, table: TableSpec) -> Iterator[Stranger]:
    one = Stranger(hbase_thrift, table.name)
    one.make_tables()
    yield one
    one.close()


def claimant(table: TableSpec, app: str = "clicks") -> Claimant:
    return Claimant(table.name, app, TOPIC.name, fingerprint(TOPIC, table))


def fill(stranger: Stranger, table: TableSpec, app: str = "clicks") -> None:
    stranger.own(app, TOPIC.name, fingerprint(TOPIC, table))
    stranger.cell(T0, b"/a", n0=4, l0=1, e0=2)
    stranger.cell(T0, b"/b|\xff", n0=1, l0=1)
    stranger.frontier(0, 99, T0 + 19 * MINUTE)


def worker(table: TableSpec, history: HBaseHistory | None, monkeypatch: pytest.MonkeyPatch) -> Starlette:
    """Its one partition has dropped the window at T0: 5 on time and 2 late."""
    monkeypatch.setitem(fakes.TABLES, table.name, table)
    cells = {T0: {b"x": (5, 2)}, T0 + MINUTE: {b"/a": (6, 0)}}
    held = FakePartition(100, T0 + 20 * MINUTE, cells={table.name: cells}, dropped={T0})
    members = FakeMembership("http://a", {"http://a": {TOPIC.name: [0]}}, {TOPIC.name: 1})
    view = FakeView({0: held})
    return build_app(
        view, {table.name: table}, TOPICS, members, Metrics(), lambda: None, peers=AppPeers({}), history=history
    )


async def ask(app: Starlette, path: str, **params: int) -> tuple[int, Any]:
    async with app.router.lifespan_context(app), fakes.client_of(app) as client:
        response: httpx.Response = await client.get(path, params=params)
        return response.status_code, response.json()


async def test_a_dropped_window_and_a_key_of_it(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stranger, table)
    as_of = [{"partition": 0, "next_offset": 100, "stream_time_ms": T0 + 19 * MINUTE}]

    def app() -> Starlette:
        return worker(table, HBaseHistory([stranger.address], [claimant(table)]), monkeypatch)

    code, answer = await ask(app(), f"/api/v1/tables/{table.name}/windows/{T0}")
    assert code == 200, answer
    assert (answer["source"], answer["complete"], answer["hbase_as_of"]) == ("hbase", True, as_of)
    assert answer["top"] == [
        {"key": "/a", "count": 7, "on_time": 4, "late": 1, "expired": 2},
        {"key_base64": "L2J8/w==", "count": 2, "on_time": 1, "late": 1, "expired": 0},
    ]
    code, answer = await ask(app(), f"/api/v1/tables/{table.name}/keys//a", to=T0 + 9 * MINUTE)
    assert [(one["source"], one["count"]) for one in answer["windows"]] == [("hbase", 7), ("state", 6)]
    assert (answer["dropped"], answer["hbase_as_of"]) == ([], as_of)


async def test_an_old_window_that_only_hbase_knows(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stranger, table)
    old = T0 - 60 * MINUTE
    stranger.cell(old, b"k", n0=3)
    stranger.certify(old, 0, certificate(3, partial=True))
    app = worker(table, HBaseHistory([stranger.address], [claimant(table)]), monkeypatch)
    code, answer = await ask(app, f"/api/v1/tables/{table.name}/windows/{old}")
    assert (code, answer["source"], answer["complete"]) == (200, "hbase", True)
    assert (answer["window"]["count"], answer["window"]["partial"]) == (3, True)


async def test_a_lost_row_makes_the_answer_incomplete(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stranger, table)
    stranger.counts.delete(row_of(T0, b"/b|\xff"))  # a clock's delete hides nothing of ours
    stranger.counts.put(row_of(T0, b"/b|\xff"), {b"c:l0": count(0)}, timestamp=2**50)
    app = worker(table, HBaseHistory([stranger.address], [claimant(table)]), monkeypatch)
    _, answer = await ask(app, f"/api/v1/tables/{table.name}/windows/{T0}")
    assert not answer["complete"]
    assert "5 on time and 1 late" in answer["missing_why"]["hbase"]


async def test_counts_of_another_app_are_not_ours(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stranger, table, app="other")
    app = worker(table, HBaseHistory([stranger.address], [claimant(table)]), monkeypatch)
    code, answer = await ask(app, f"/api/v1/tables/{table.name}/windows/{T0}")
    assert code == 503
    assert "app other" in answer["error"]["why"]


async def test_unclaimed_or_missing_tables_hold_nothing(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.cell(T0, b"/a", n0=5, l0=2)  # by whom?
    for one in (table, replace(table, name=new_table_name())):
        app = worker(one, HBaseHistory([stranger.address], [claimant(one)]), monkeypatch)
        code, answer = await ask(app, f"/api/v1/tables/{one.name}/windows/{T0}")
        assert code == 404
        assert "HBase has none" in answer["error"]["why"]


async def test_the_next_thrift_server_is_asked_when_one_is_away(
    stranger: Stranger, table: TableSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(stranger, table)
    app = worker(table, HBaseHistory(["127.0.0.1:1", stranger.address], [claimant(table)]), monkeypatch)
    assert (await ask(app, f"/api/v1/tables/{table.name}/windows/{T0}"))[0] == 200


async def test_hbase_away_is_503_and_a_series_is_incomplete(table: TableSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> Starlette:
        return worker(table, HBaseHistory(["127.0.0.1:1"], [claimant(table)]), monkeypatch)

    code, answer = await ask(app(), f"/api/v1/tables/{table.name}/windows/{T0}")
    assert code == 503
    assert "127.0.0.1:1" in answer["error"]["why"]
    code, answer = await ask(app(), f"/api/v1/tables/{table.name}/keys//a", to=T0 + 9 * MINUTE)
    assert (code, answer["complete"], answer["dropped"]) == (200, False, [T0])


async def test_a_server_that_says_nothing_is_given_up_after_the_deadline(table: TableSpec) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        history = HBaseHistory([f"127.0.0.1:{silent.getsockname()[1]}"], [claimant(table)], deadline_s=0.2)
        before = time.monotonic()
        with pytest.raises(SinkUnavailableError, match=r"no answer within 0\.2 s"):
            await history.window(table.name, T0, 5)
        assert time.monotonic() - before < 2
        await history.close()
