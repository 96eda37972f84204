"""JSON out of the public shapes."""

from __future__ import annotations

import base64
from typing import TypedDict

import msgspec
from starlette.responses import Response


class KeyText(TypedDict, total=False):
    key: str
    key_base64: str


def json_response(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def key_text(key: bytes) -> KeyText:
    """A key as text, or as base64 where it isn't UTF-8."""
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key_base64": base64.b64encode(key).decode()}
