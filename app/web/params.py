"""Reading a request: every wrong input becomes a `RequestError` that says how to put it right."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from app.web.errors import RequestError
from domain.spec import KEY_BYTES_MAX, TIME_END_MS, KeyType, TableSpec

TOP_DEFAULT = 50
TOP_MAX = 1000
WINDOWS_DEFAULT = 100
WINDOWS_MAX = 10_000
SHOWN_MAX = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_FIX = "write milliseconds since 1970 or ISO 8601 with zone, such as 2026-11-23T08:05:00Z (a + is sent as %2B)"
KEY_SEGMENT = 6  # "/api/v1/tables/{t}/keys/{key}" split at slashes


@dataclass(frozen=True, slots=True)
class Range:
    """Window starts asked for, [from_ms, to_ms); None: the newest windows."""

    from_ms: int | None
    to_ms: int | None

    def resolve(self, table: TableSpec, stream_time_ms: int | None) -> tuple[int, int]:
        """Fill what wasn't asked from the newest window. Raises `RequestError` for too many windows."""
        size = table.window_ms
        newest_end = 0 if stream_time_ms is None else stream_time_ms - stream_time_ms % size + size
        to_ms = self.to_ms if self.to_ms is not None else max(newest_end, (self.from_ms or 0) + size)
        from_ms = self.from_ms if self.from_ms is not None else max(0, to_ms - WINDOWS_DEFAULT * size)
        if from_ms >= to_ms:
            raise RequestError(400, "bad range", f"from ({from_ms}) isn't before to ({to_ms})", "swap or widen them")
        windows = -(-(to_ms - from_ms) // size)
        if windows > WINDOWS_MAX:
            raise RequestError(
                400,
                "range too long",
                f"it spans {windows} windows, one answer holds {WINDOWS_MAX}",
                f"ask for at most {WINDOWS_MAX * size} ms at a time, such as to={from_ms + WINDOWS_MAX * size}",
            )
        return from_ms, to_ms


def check_names(request: Request, *allowed: str) -> None:
    """Refuse a query parameter that would be ignored."""
    for name in request.query_params:
        if name not in allowed:
            raise RequestError(
                400,
                f"unknown parameter {_shown(name)}",
                f"this route knows {', '.join(allowed) or 'none'}",
                _nearest(name, allowed, "leave it out"),
            )


def is_local(request: Request) -> bool:
    """Whether only this worker's own raw answers are asked for."""
    scope = request.query_params.get("scope")
    if scope not in {None, "local"}:
        raise RequestError(
            400, f"bad scope {_shown(scope or '')}", "it isn't local", "write scope=local or leave it out"
        )
    return scope == "local"


def table_named(tables: Mapping[str, TableSpec], name: str) -> TableSpec:
    if name in tables:
        return tables[name]
    known = f"the tables are {', '.join(sorted(tables))}" if tables else "no table is configured"
    raise RequestError(404, f"unknown table {_shown(name)}", known, _nearest(name, tables, "name one of these"))


def range_of(request: Request) -> Range:
    return Range(*(_optional_time(request, name) for name in ("from", "to")))


def top_of(request: Request) -> int:
    text = request.query_params.get("top")
    if text is None:
        return TOP_DEFAULT
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= TOP_MAX:
        raise RequestError(400, f"bad top {_shown(text)}", f"it isn't an integer in 1..{TOP_MAX}", "write top=50")
    return int(text)


def start_of(request: Request, table: TableSpec) -> int:
    return window_start(request.path_params["start"], table)


def window_start(text: str, table: TableSpec) -> int:
    """Raises `RequestError` for a time at which no window of the table starts."""
    start_ms = time_ms("start", text)
    before = start_ms - start_ms % table.window_ms
    if before != start_ms:
        raise RequestError(
            400, "no window starts there", f"windows of {table.name} last {table.window_ms} ms", f"ask for {before}"
        )
    return start_ms


def time_ms(name: str, text: str) -> int:
    """Milliseconds since 1970, rounded down. Raises `RequestError`."""
    if re.fullmatch(r"-?[0-9]{1,18}", text):
        when_ms = int(text)
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise RequestError(400, f"bad time {name}={_shown(text)}", "it isn't a time", TIME_FIX) from None
        if when.tzinfo is None:
            raise RequestError(400, f"bad time {name}={_shown(text)}", "it has no zone", TIME_FIX)
        when_ms = (when - EPOCH) // timedelta(milliseconds=1)
    if not 0 <= when_ms <= TIME_END_MS:
        raise RequestError(400, f"bad time {name}={_shown(text)}", "it lies outside 1970-9999", TIME_FIX)
    return when_ms


def iso(when_ms: int) -> str:
    """UTC, with milliseconds only where there are some."""
    if not 0 <= when_ms < TIME_END_MS:
        return str(when_ms)
    when = EPOCH + timedelta(milliseconds=when_ms)
    return when.isoformat(timespec="milliseconds" if when_ms % 1000 else "seconds").replace("+00:00", "Z")


def key_of(request: Request, table: TableSpec) -> bytes:
    """The key's bytes from the path, or from `key_base64` where the path's key is empty.

    A base64 key is taken as it is; a text key of several fields may be any JSON spelling of the array.
    """
    key = _path_key(request)
    encoded = request.query_params.get("key_base64")
    if encoded is not None:
        if key:
            raise RequestError(400, "two keys", "both the path and key_base64 name one", "leave the path's key empty")
        key = _decoded(encoded)
    else:
        key = key_bytes(key, table)
    _check_length(key)
    return key


def key_bytes(text: bytes, table: TableSpec) -> bytes:
    """A key written as text. Raises `RequestError` for one that can't exist in this table."""
    key = _compact(text, table) if len(table.key) > 1 else text
    _check_length(key)
    return key


def _check_length(key: bytes) -> None:
    if len(key) > KEY_BYTES_MAX:
        raise RequestError(400, "key too long", f"no key exceeds {KEY_BYTES_MAX} bytes", "ask for a shorter key")


def _path_key(request: Request) -> bytes:
    """Percent-decoded from the raw path: the decoded path has already lost bytes that aren't UTF-8."""
    raw = request.scope.get("raw_path") or b""
    segments = raw.split(b"/", KEY_SEGMENT)
    if len(segments) <= KEY_SEGMENT or segments[KEY_SEGMENT - 1] != b"keys":
        return str(request.path_params["key"]).encode("utf-8", "surrogateescape")
    return unquote_to_bytes(segments[KEY_SEGMENT])


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.replace(" ", "+"), validate=True)  # a bare + arrives as a space
    except (binascii.Error, ValueError):
        raise RequestError(
            400, f"bad key_base64 {_shown(encoded)}", "it isn't base64", "use the alphabet A-Z a-z 0-9 + / with padding"
        ) from None


def _compact(text: bytes, table: TableSpec) -> bytes:
    types = {KeyType.STRING: str, KeyType.INT: int, KeyType.BOOL: bool}
    try:
        parts = json.loads(text.decode())
        if isinstance(parts, list) and [type(p) for p in parts] == [types[field.type] for field in table.key]:
            return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a lone surrogate, too deep
        pass
    kinds = ", ".join(field.type.value for field in table.key)
    raise RequestError(
        400,
        "bad key",
        f"a key of {table.name} is a JSON array of {len(table.key)} parts: {kinds}",
        "write it so, percent-encoded",
    )


def _optional_time(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    return None if text is None else time_ms(name, text)


def _nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name[:SHOWN_MAX], list(known), 1)
    return f"did you mean {near[0]}?" if near else otherwise


def _shown(text: str) -> str:
    short = text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"
    return json.dumps(short)
