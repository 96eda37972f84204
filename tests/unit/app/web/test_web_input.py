"""Wrong input is answered with what to do, never with a fault of ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.params import WINDOWS_MAX
from app.web.wire import TalliesAsk, TopAsk
from domain.spec import TIME_END_MS
from tests.unit.app.web.fakes import MINUTE, FakePartition, Group, client_of, group


def worker(token: str | None = None) -> Group:
    cells = {"page_views": {0: {b"k": (1, 0)}}, "pairs": {0: {b'["k",1]': (1, 0)}}}
    return group({"http://a": {0: FakePartition(cells=cells)}}, partitions=1, token=token)


async def test_an_unknown_table_names_the_tables_there_are_and_the_nearest() -> None:
    error = await worker().error(404, "/api/v1/tables/page_view")
    assert error["why"] == "the tables are page_views, pairs"
    assert error["fix"] == "did you mean page_views?"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("windows", {"from": "yesterday"}),
        ("windows", {"from": "2026-11-23T08:05:00"}),
        ("windows", {"from": -1}),
        ("windows", {"to": TIME_END_MS + 1}),
        ("windows", {"from": 10, "to": 10}),
        ("windows", {"from": 0, "to": (WINDOWS_MAX + 1) * MINUTE}),
        ("windows", {"form": 0}),
        ("windows", {"scope": "global"}),
        ("windows/0", {"top": 0}),
        ("windows/0", {"top": 1001}),
        ("windows/0", {"top": "ten"}),
        ("windows/1", {}),
        ("windows/noon", {}),
        ("keys/k", {"key_base64": "aw=="}),
        ("keys/", {"key_base64": "!"}),
        ("keys/" + "k" * 4097, {}),
    ],
)
async def test_bad_input_is_400_with_advice(path: str, params: dict[str, Any]) -> None:
    error = await worker().error(400, f"/api/v1/tables/page_views/{path}", **params)
    assert all(error.values())


async def test_a_misspelled_parameter_names_the_nearest_one() -> None:
    assert (await worker().error(400, "/api/v1/tables/page_views/windows", form=0))["fix"] == "did you mean from?"


async def test_the_longest_range_allowed_is_answered() -> None:
    longest = await worker().json("/api/v1/tables/page_views/windows", from_=0, to=WINDOWS_MAX * MINUTE)
    assert [w["start_ms"] for w in longest["windows"]] == [0]
    latest = await worker().json("/api/v1/tables/page_views/windows", to=TIME_END_MS)
    assert latest["windows"] == []


async def test_unknown_routes_and_methods_are_json_errors() -> None:
    workers = worker()
    assert (await workers.error(404, "/api/v2/tables"))["fix"] == "see /openapi.json"
    assert (await workers.error(405, "/api/v1/local"))["fix"] == "see /openapi.json"


async def test_a_window_start_that_is_none_names_the_one_before() -> None:
    assert (await worker().error(400, f"/api/v1/tables/page_views/windows/{MINUTE + 5}"))["fix"] == f"ask for {MINUTE}"


segments = st.text(max_size=20) | st.sampled_from(
    ["page_views", "pairs", "windows", "keys", "0", "", "..", "k", "2026-01-01T00:00Z"]
)
values = st.text(max_size=30) | st.integers(-(10**20), 10**20).map(str)
names = st.sampled_from(["from", "to", "top", "scope", "key_base64", "table"]) | st.text(max_size=5)


@given(st.lists(segments, max_size=5), st.dictionaries(names, values, max_size=3))
async def test_no_request_makes_the_service_fault(path: list[str], params: dict[str, str]) -> None:
    url = "/api/v1/" + "/".join(quote(s, safe="", errors="replace") for s in ["tables", *path])
    async with client_of(worker().apps["http://a"]) as client:
        response = await client.get(url, params={n: v.encode(errors="replace").decode() for n, v in params.items()})
    assert response.status_code in {200, 400, 404}
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"what", "why", "fix"}


@given(names, values)
async def test_no_parameter_of_a_real_route_makes_the_service_fault(name: str, value: str) -> None:
    async with client_of(worker().apps["http://a"]) as client:
        for path in (
            "tables/page_views/windows",
            "tables/page_views/windows/0",
            "tables/pairs/keys/",
            "partitions",
            "tallies",
        ):
            response = await client.get(f"/api/v1/{path}", params={name: value.encode(errors="replace").decode()})
            assert response.status_code in {200, 400, 404}


asks = st.binary(max_size=40) | st.builds(
    msgspec.msgpack.encode,
    st.dictionaries(
        st.sampled_from(["type", "table", "start_ms", "count", "keys", "from_ms", "to_ms", "key"]),
        st.sampled_from(
            ["top", "windows", "series", "tallies", "page_views", "x", b"\xff", -1, 1 << 60, 0, None, [b"k"]]
        ),
    ),
)


@given(asks)
async def test_no_question_between_workers_makes_the_service_fault(body: bytes) -> None:
    async with client_of(worker().apps["http://a"]) as client:
        response = await client.post("/api/v1/local", content=body)
    assert response.status_code in {200, 400, 404}


async def test_a_question_about_a_table_not_configured_here_is_404() -> None:
    async with client_of(worker().apps["http://a"]) as client:
        response = await client.post("/api/v1/local", content=msgspec.msgpack.encode(TalliesAsk("nope")))
    assert response.status_code == 404


async def test_a_question_too_long_is_refused_before_it_is_kept() -> None:
    async with client_of(worker().apps["http://a"]) as client:
        body = msgspec.msgpack.encode(TopAsk("page_views", 0, 1, [bytes(1 << 20)] * 65))
        assert (await client.post("/api/v1/local", content=body)).status_code == 413


PROTECTED = ["/api/v1/tables", "/api/v1/partitions", "/metrics", "/openapi.json", "/nothing"]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize("given_token", [None, "Bearer wrong", "Bearer ", "Basic secret", "secret", "Bearer sécret"])
async def test_without_the_right_token_everything_but_health_is_401(path: str, given_token: str | None) -> None:
    app = worker("secret").apps["http://a"]
    headers = {} if given_token is None else {"Authorization": given_token}
    async with client_of(app) as client:
        response = await client.get(path, headers={k: v.encode() for k, v in headers.items()})  # type: ignore[arg-type]
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert set(response.json()["error"]) == {"what", "why", "fix"}


async def test_health_and_readiness_need_no_token() -> None:
    async with client_of(worker("secret").apps["http://a"]) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/api/v1/local", content=b"")).status_code == 401


async def test_the_right_token_opens_and_is_passed_on_to_the_other_workers() -> None:
    workers = group({"http://a": {0: FakePartition()}, "http://b": {1: FakePartition()}}, partitions=2, token="secret")
    assert (await workers.json("/api/v1/tables/page_views"))["complete"]
