"""Progress: one row per role, table and source partition. It never claims more than is durable."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from domain.errors import CorruptRowError

FORMAT = 1


class Witness(msgspec.Struct, frozen=True):
    """The last record read: tells a topic re-created under its name."""

    offset: int
    timestamp: int
    crc: int


class Cut(msgspec.Struct, frozen=True):
    """Offsets [first, next) the function never saw; the Kafka timestamps around it, None where unknown."""

    first: int
    next: int
    before_ms: int | None = None
    after_ms: int | None = None


class StateProgress(msgspec.Struct, kw_only=True, omit_defaults=False):
    """Of (state, table): commits with the cells it speaks for."""

    format: int = FORMAT
    state_id: str
    fingerprint: str
    start: int
    next_offset: int
    stream_time: int | None = None
    witness: Witness | None = None
    cuts: list[Cut] = []
    tallies: dict[str, int] = {}
    cursors: dict[str, int] = {}


class FollowerProgress(msgspec.Struct, kw_only=True):
    """Of a follower: everything below `next_offset` is durable in its sink."""

    format: int = FORMAT
    state_id: str
    start: int
    next_offset: int


class CountsProgress(FollowerProgress, kw_only=True):
    """Of a table's counts in a store that can be emptied: `table_id` names the filling it speaks of."""

    table_id: str = ""  # empty: nothing was put yet
    lost_until: int = -1  # ms; windows that start here or before may have left the state before this filling


class ResetMark(msgspec.Struct, kw_only=True):
    """A reset began and hasn't ended: rows may be missing, so nothing may count on them."""

    format: int = FORMAT
    state_id: str


class _StateId(msgspec.Struct):
    state_id: str


def encode(progress: StateProgress | FollowerProgress | ResetMark) -> bytes:
    return msgspec.json.encode(progress, order="deterministic")


def decode_state(value: bytes) -> StateProgress:
    return _decode(value, StateProgress)


def decode_follower(value: bytes) -> FollowerProgress:
    return _decode(value, FollowerProgress)


def decode_counts(value: bytes) -> CountsProgress:
    return _decode(value, CountsProgress)


def state_id_of(value: bytes) -> str:
    """Of a progress row of any role."""
    try:
        return msgspec.json.decode(value, type=_StateId).state_id
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        raise CorruptRowError(f"progress row {value[:200]!r}: {err}") from err


def with_state_id(value: bytes, state_id: str) -> bytes:
    """A progress row of any role and version under another state id; all else stays."""
    try:
        fields = msgspec.json.decode(value, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        raise CorruptRowError(f"progress row {value[:200]!r}: {err}") from err
    return msgspec.json.encode({**fields, "state_id": state_id}, order="deterministic")


Progress = TypeVar("Progress", StateProgress, FollowerProgress, CountsProgress)


def _decode(value: bytes, kind: type[Progress]) -> Progress:
    try:
        progress = msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as err:
        raise CorruptRowError(f"progress row {value[:200]!r}: {err}") from err
    if progress.format != FORMAT:
        raise CorruptRowError(f"progress row of format {progress.format}, this version knows {FORMAT}")
    return progress


def record_crc(key: bytes | None, value: bytes | None) -> int:
    """CRC-32 of a record's key and value; absent and empty differ."""
    crc = zlib.crc32(b"-" if key is None else b"+" + key)
    return zlib.crc32(b"-" if value is None else b"+" + value, crc)


def seek_position(next_offsets: Iterable[int]) -> int:
    """Where reading starts: the lowest progress. Each reader ignores what is below its own."""
    return min(next_offsets)
