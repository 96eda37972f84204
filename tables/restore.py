"""Restore: the state of a partition from its changelog, reading only the tail where the directory allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from domain import rows as row_format
from domain.fold import Ahead
from domain.progress import decode_state, state_id_of
from domain.rows import Kind, Role, Row, parse_key
from tables.changelog import Bounds, ChangelogReader
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
    loose: dict[str, list[Row]] = {}  # rows after their table's last progress row
    last = local.offset if local is not None else -1
    first = bounds.begin if local is None else local.offset
    async for chunk in reader.rows(first, bounds.end):
        found: list[Row] = [(key, value) for _, key, value in chunk]
        for row in found:
            state_id = _sort(row, loose)
            if state_id is not None:
                if local is not None and state_id != local.state_id:
                    raise _ForeignError
                restored.state_id = state_id
        await asyncio.to_thread(store.commit, found)
        restored.rows += len(found)
        last = chunk[-1][0]
        tell(restored.rows)
    if local is not None and restored.state_id is None:
        raise _ForeignError  # our last progress row is gone, and nothing newer replaced it
    restored.ahead = _ahead(store, loose)
    # With rows ahead no position: the next restore must find them loose again, so it reads from the start.
    if restored.state_id is not None and not restored.ahead:
        await asyncio.to_thread(store.commit, [], Position(restored.state_id, last))
    return restored


def _sort(row: Row, loose: dict[str, list[Row]]) -> str | None:
    """Note a row as loose until its table's progress comes; returns the state id, if it is a progress row."""
    key = parse_key(row[0])
    if key is None or row[1] is None:
        return None
    if key.kind is Kind.PROGRESS:
        if key.tail == Role.STATE.value.encode():
            loose.pop(key.table, None)
        return state_id_of(row[1])
    loose.setdefault(key.table, []).append(row)
    return None


def _ahead(store: RocksStore, loose: dict[str, list[Row]]) -> dict[str, Ahead]:
    """Of rows that no progress followed, those that speak of more than progress does."""
    result: dict[str, Ahead] = {}
    for table, rows in loose.items():
        value = store.get(row_format.progress_key(Role.STATE, table))
        if value is None:
            continue
        next_offset = decode_state(value).next_offset
        ahead = Ahead()
        for key_bytes, row_value in rows:
            key = parse_key(key_bytes)
            assert key is not None
            assert row_value is not None
            if key.kind is Kind.CELL:
                offset = ahead.cells[key.start_ms, key.tail] = row_format.unpack_cell(row_value).offset
            elif key.kind is Kind.CERTIFICATE:
                offset = ahead.certificates[key.start_ms] = row_format.unpack_certificate(row_value).offset
            else:
                offset = row_format.unpack_id(row_value)
            ahead.until = max(ahead.until, offset)
        if ahead.until >= next_offset:
            result[table] = ahead
    return result
