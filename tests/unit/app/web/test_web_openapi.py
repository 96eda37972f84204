"""The document says what the routes do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from app.web import answers
from app.web.openapi import document
from tests.unit.app.web.fakes import FakePartition, Group, group

DOCS = Path(__file__).parents[4] / "docs" / "api.md"


def worker() -> Group:
    cells = {"page_views": {0: {b"k": (1, 0), b"\xff": (1, 1)}}}
    return group({"http://a": {0: FakePartition(cells=cells, tallies={"on_time": 2})}}, partitions=2)


def routes() -> set[tuple[str, str]]:
    return {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in worker().apps["http://a"].routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }


def test_each_route_is_in_the_document_and_each_path_of_it_is_a_route() -> None:
    assert routes() == {(path, method) for path, methods in document()["paths"].items() for method in methods}


def test_each_route_is_in_the_docs() -> None:
    text = DOCS.read_text()
    for path, method in routes():
        assert f"`{method.upper()} {path}`" in text


def test_every_reference_leads_to_a_schema_and_every_path_parameter_is_declared() -> None:
    shown = document()
    text = msgspec.json.encode(shown).decode()
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= set(shown["components"]["schemas"])
    for path, methods in shown["paths"].items():
        declared = {p["name"] for p in methods.get("get", {}).get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/api/v1/tables", answers.Tables),
        ("/api/v1/tables/page_views", answers.TableDetail),
        ("/api/v1/tables/page_views/windows", answers.Windows),
        ("/api/v1/tables/page_views/windows/0", answers.WindowDetail),
        ("/api/v1/tables/page_views/keys/%FF", answers.KeySeries),
        ("/api/v1/tables/page_views/keys/k", answers.KeySeries),
        ("/api/v1/partitions", answers.Partitions),
        ("/api/v1/tallies", answers.Tallies),
        ("/healthz", answers.Status),
        ("/readyz", answers.Status),
    ],
)
async def test_an_answer_has_the_shape_the_document_names(path: str, shape: type[Any]) -> None:
    response = await worker().get(path)
    decoded = msgspec.json.decode(response.content, type=shape)
    assert msgspec.json.encode(decoded) == response.content


async def test_the_document_is_served() -> None:
    shown = await worker().json("/openapi.json")
    assert shown["openapi"] == "3.1.0"
    assert shown == document()
