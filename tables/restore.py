"""Restore: the state of a partition from its changelog, reading only the tail where the directory allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from domain import rows as row_format
from domain.fold import Ahead
from domain.progress import decode_state, state_id_of
from domain.rows import Kind, Role, RowKey, parse_key, parse_prefix, prefixes
from tables.changelog import Bounds, ChangelogReader, Chunk
from tables.rocksdb import Position, RocksStore


@dataclass(slots=True)
class Restored:
    """What was restored: rows read, and rows past their table's progress."""

    state_id: str | None  # None: the changelog holds no progress
    rows: int = 0
    cold: bool = True  # read from the start
    ahead: dict[str, Ahead] = field(default_factory=dict)


class _ForeignError(Exception):
    """The directory belongs to another changelog."""


async def restore(store: RocksStore, reader: ChangelogReader, tell: Callable[[int], None]) -> Restored:
    """Bring the store level with the changelog's end. Safe to cancel: the old position stays until the end.

    `tell` gets the number of rows read so far.
    """
    bounds = await reader.bounds()
    local = store.position()
    if local is not None and bounds.begin <= local.offset < bounds.end:
        try:
            return await _read(store, reader, bounds, local, tell)
        except _ForeignError:
            pass
    await asyncio.to_thread(store.wipe)
    return await _read(store, reader, bounds, None, tell)


async def _read(
    store: RocksStore, reader: ChangelogReader, bounds: Bounds, local: Position | None, tell: Callable[[int], None]
) -> Restored:
    restored = Restored(None, cold=local is None)
    apply = store.load if local is None else store.commit
    tails = _Tails()
    last = local.offset if local is not None else -1
    first = bounds.begin if local is None else local.offset
    async for chunk in reader.rows(first, bounds.end):
        for state_id in tails.note(chunk):
            if local is not None and state_id != local.state_id:
                raise _ForeignError
            restored.state_id = state_id
        await asyncio.to_thread(apply, zip(chunk.keys, chunk.values, strict=True))
        restored.rows += len(chunk.keys)
        last = int(chunk.offsets[-1])
        tell(restored.rows)
    if local is not None and restored.state_id is None:
        raise _ForeignError  # our last progress row is gone, and nothing newer replaced it
    restored.ahead = await _ahead(store, reader, tails.loose(first), bounds.end)
    # With rows ahead no position: the next restore must find them loose again, so it reads from the start.
    if restored.state_id is not None and not restored.ahead:
        await asyncio.to_thread(store.commit, [], Position(restored.state_id, last))
    return restored


class _Tails:
    """Where each table's last row and last progress were read. Offsets only.

    A compacted changelog has one progress row, and it may be behind millions of others.
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}  # by prefix
        self._progress: dict[str, int] = {}

    def note(self, chunk: Chunk) -> list[str]:
        """Pass over a chunk; returns the state ids of its progress rows."""
        named = prefixes(chunk.keys)
        latest = dict(zip(named, chunk.offsets.tolist(), strict=True))
        self._rows |= latest
        progress = {one for one in latest if _is_progress(one)}
        if not progress:
            return []
        found = []
        for place in [place for place, name in enumerate(named) if name in progress]:
            key, value = parse_key(chunk.keys[place]), chunk.values[place]
            if key is not None and value is not None:
                found.append(state_id_of(value))
                if key.tail == Role.STATE.value.encode():
                    self._progress[key.table] = int(chunk.offsets[place])
        return found

    def loose(self, first: int) -> dict[str, int]:
        """Tables with rows that no progress followed: the offset those are at or above, `first` at the least."""
        found = {}
        for prefix, offset in self._rows.items():
            parsed = parse_prefix(prefix)
            if parsed is None or parsed[0] is Kind.PROGRESS:
                continue
            table = parsed[1]
            if offset > self._progress.get(table, -1):
                found[table] = self._progress.get(table, first)
        return found


def _is_progress(prefix: bytes) -> bool:
    parsed = parse_prefix(prefix)
    return parsed is not None and parsed[0] is Kind.PROGRESS


async def _ahead(store: RocksStore, reader: ChangelogReader, loose: dict[str, int], end: int) -> dict[str, Ahead]:
    """Of rows that no progress followed, those that speak of more than progress does. They are read once more."""
    next_offsets: dict[str, int] = {}
    for table in loose:
        value = store.get(row_format.progress_key(Role.STATE, table))
        if value is not None:
            next_offsets[table] = decode_state(value).next_offset
    if not next_offsets:
        return {}
    found = {table: Ahead() for table in next_offsets}
    async for chunk in reader.rows(min(loose[table] for table in next_offsets), end):
        for offset, key, value in zip(chunk.offsets.tolist(), chunk.keys, chunk.values, strict=True):
            parsed = parse_key(key)
            if parsed is not None and value is not None and parsed.table in found and offset >= loose[parsed.table]:
                _look_ahead(found[parsed.table], parsed, value, next_offsets[parsed.table])
    return {table: ahead for table, ahead in found.items() if ahead.until >= 0}


def _look_ahead(ahead: Ahead, key: RowKey, value: bytes, next_offset: int) -> None:
    if key.kind is Kind.CELL:
        offset = row_format.unpack_cell(value).offset
        if offset >= next_offset:
            ahead.cells[key.start_ms, key.tail] = offset
    elif key.kind is Kind.CERTIFICATE:
        offset = row_format.unpack_certificate(value).offset
        if offset >= next_offset:
            ahead.certificates[key.start_ms] = offset
    elif key.kind is Kind.ID:
        offset = row_format.unpack_id(value)
    else:
        return
    if offset >= next_offset:
        ahead.until = max(ahead.until, offset)
