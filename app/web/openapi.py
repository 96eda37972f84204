"""The OpenAPI document: paths written here, schemas generated from the public shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from app.web import answers
from app.web.params import TOP_DEFAULT, TOP_MAX, WINDOWS_DEFAULT, WINDOWS_MAX
from app.web.peers import MSGPACK

REF = "#/components/schemas/{name}"
Json = dict[str, Any]
FAILURES = ("400", "401", "404")

TIME = {"oneOf": [{"type": "integer", "description": "ms since 1970"}, {"type": "string", "format": "date-time"}]}


def document() -> Json:
    """The document as plain JSON values."""
    shapes = [
        answers.Tables,
        answers.TableDetail,
        answers.Windows,
        answers.WindowDetail,
        answers.KeySeries,
        answers.Partitions,
        answers.Tallies,
        answers.Status,
        answers.ErrorBody,
    ]
    _, schemas = msgspec.json.schema_components(shapes, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Recount",
            "version": "1",
            "description": "Committed counts per key and event-time window. Any worker answers for the whole table.",
        },
        "paths": _paths(),
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _paths() -> Json:
    table = _path("table", "A configured table.")
    span = [
        _query("from", "First window start, inclusive.", TIME),
        _query("to", f"Exclusive; at most {WINDOWS_MAX} windows, without it the newest {WINDOWS_DEFAULT}.", TIME),
    ]
    top = {"type": "integer", "minimum": 1, "maximum": TOP_MAX, "default": TOP_DEFAULT}
    local = _query("scope", "local: this worker's own answers, per partition, unmerged.", {"const": "local"})
    encoded = _query("key_base64", "The key as base64, with an empty key in the path.", {"type": "string"})
    one_table = _query("table", "Only this table.", {"type": "string"})
    return {
        "/api/v1/tables": {"get": _get("The tables there are", answers.Tables)},
        "/api/v1/tables/{table}": {"get": _get("One table and its tallies", answers.TableDetail, table, local)},
        "/api/v1/tables/{table}/windows": {"get": _get("Counts by window", answers.Windows, table, *span, local)},
        "/api/v1/tables/{table}/windows/{start}": {
            "get": _get(
                "A window's largest keys, exact over all partitions; from HBase once gone from the state",
                answers.WindowDetail,
                table,
                _path("start", "The window's start.", TIME),
                _query("top", "How many keys.", top),
                local,
                failures=(*FAILURES, "500", "503"),
            )
        },
        "/api/v1/tables/{table}/keys/{key}": {
            "get": _get(
                "One key over time; windows gone from the state from HBase",
                answers.KeySeries,
                table,
                _path("key", "Percent-encoded, may hold slashes; a JSON array where the key has several fields."),
                *span,
                encoded,
                local,
            )
        },
        "/api/v1/partitions": {"get": _get("Every partition, its worker and lag", answers.Partitions, local)},
        "/api/v1/tallies": {"get": _get("Records read per class", answers.Tallies, one_table)},
        "/api/v1/local": {"post": _between_workers()},
        "/healthz": {"get": _open("The process answers", "200")},
        "/readyz": {"get": _open("Every assigned partition is restored", "200", "503")},
        "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": _content("text/plain")}}},
        "/openapi.json": {"get": {"summary": "This document", "responses": {"200": _content("application/json")}}},
    }


def _get(summary: str, shape: type, *parameters: Json, failures: Iterable[str] = FAILURES) -> Json:
    responses = {"200": _json(shape), **{code: _json(answers.ErrorBody) for code in failures}}
    return {"summary": summary, "parameters": list(parameters), "responses": responses}


def _open(summary: str, *codes: str) -> Json:
    return {"summary": summary, "security": [], "responses": {code: _json(answers.Status) for code in codes}}


def _between_workers() -> Json:
    binary = {"type": "string", "contentMediaType": MSGPACK}
    return {
        "summary": "Between workers of one version; not for clients",
        "requestBody": {"required": True, "content": {MSGPACK: {"schema": binary}}},
        "responses": {"200": _content(MSGPACK), "400": _json(answers.ErrorBody), "413": _json(answers.ErrorBody)},
    }


def _json(shape: type) -> Json:
    schema = {"$ref": REF.format(name=shape.__name__)}
    return {"description": shape.__name__, "content": {"application/json": {"schema": schema}}}


def _content(media_type: str) -> Json:
    return {"description": media_type, "content": {media_type: {}}}


def _path(name: str, meaning: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": meaning,
        "schema": schema or {"type": "string"},
    }


def _query(name: str, meaning: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": meaning, "schema": schema}
