"""Taking tables out of one changelog partition: what there is of them, and the transactions that delete it.

1. A mark for each table, and what stays under a new state id. From here on no worker counts these tables.
2. Tombstones of their rows, a bounded transaction at a time.
3. The marks go, once everything outside of the changelog is gone too.

A death anywhere leaves the mark: doing all of it again is always right. The new state id makes every directory that
was restored before start over: Kafka drops tombstones after a while, and one that comes back later wouldn't see them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice

from domain.errors import CorruptRowError
from domain.progress import ResetMark, StateProgress, decode_follower, decode_state, encode, with_state_id
from domain.rows import FORMAT, Kind, Role, Row, parse_key, progress_key, table_prefix
from tables.changelog import ChangelogWriter
from tables.rocksdb import RocksStore

ROWS_MAX = 20_000  # in one transaction
TELL_ROWS = 100_000
WHOLE_TOPIC = ""  # in place of a table
_PROGRESS = b"%c%s" % (FORMAT, Kind.PROGRESS.value)


@dataclass(frozen=True, slots=True)
class TableSize:
    """What one partition holds of a table; `progress` None: rows that no progress speaks of, or none."""

    cells: int = 0
    windows: int = 0
    progress: StateProgress | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What one partition's changelog holds."""

    tables: dict[str, TableSize] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    """Next offset of the followers of records, by role."""

    @property
    def empty(self) -> bool:
        return not self.tables and not self.logs


def holding(store: RocksStore, tell: Callable[[int], None]) -> Holding:
    """Look at a restored store. `tell` gets the number of cells counted so far, now and then."""
    names: dict[str, StateProgress | None] = {}
    logs: dict[str, int] = {}
    for key, value in store.scan(_PROGRESS):
        row = parse_key(key)
        assert row is not None
        role = row.tail.decode(errors="replace")
        if role in (Role.ARCHIVE.value, Role.EVENTS.value):
            logs[role] = decode_follower(value).next_offset
        elif row.table:
            names.setdefault(row.table, None)
            if role == Role.STATE.value:
                names[row.table] = decode_state(value)
    return Holding({name: _size(store, name, progress, tell) for name, progress in names.items()}, logs)


def _size(store: RocksStore, table: str, progress: StateProgress | None, tell: Callable[[int], None]) -> TableSize:
    cells = 0
    for cells, _ in enumerate(store.scan(table_prefix(Kind.CELL, table)), 1):
        if not cells % TELL_ROWS:
            tell(cells)
    return TableSize(cells, sum(1 for _ in store.scan(table_prefix(Kind.CERTIFICATE, table))), progress)


class PartitionReset:
    """Of some tables in one changelog partition; the writer has fenced all others.

    Every method raises `FencedError` if somebody else took the partition meanwhile, `TaintedError` if the outcome is
    unknown: then all of it must be done again.
    """

    def __init__(self, writer: ChangelogWriter, tables: Iterable[str]) -> None:
        self._writer = writer
        self._tables = tuple(tables)
        self._staying: list[Row] = []

    async def mark(self, store: RocksStore | None) -> None:
        """Without a store: the whole topic goes, and nothing stays."""
        state_id = secrets.token_hex(8)
        if store is not None:
            self._staying = staying(store, self._tables)
        await self._writer.commit([*marks(self._tables, state_id), *renewed(self._staying, state_id)])

    async def clear(self, store: RocksStore, tell: Callable[[int], None]) -> None:
        """Delete the rows; the store itself is left as it is. `tell` gets the number of rows deleted so far."""
        done = 0
        # Closed also by an error, which keeps this frame: the store can't be closed before its scans are.
        with closing(tombstones(store, self._tables)) as rows:
            while chunk := list(islice(rows, ROWS_MAX)):
                await self._writer.commit(chunk)
                done += len(chunk)
                tell(done)

    async def end(self) -> None:
        """Nothing of these tables is left, anywhere."""
        gone: list[Row] = [(progress_key(Role.RESET, name), None) for name in self._tables]
        await self._writer.commit([*gone, *renewed(self._staying, secrets.token_hex(8))])


def marks(tables: Iterable[str], state_id: str) -> list[Row]:
    return [(progress_key(Role.RESET, name), encode(ResetMark(state_id=state_id))) for name in tables]


def staying(store: RocksStore, tables: Iterable[str]) -> list[Row]:
    """Progress rows of everything else."""
    going = frozenset(tables)
    found: list[Row] = []
    for key, value in store.scan(_PROGRESS):
        row = parse_key(key)
        if row is None:
            raise CorruptRowError(f"progress row {key.hex()} of another kind")
        if not row.table or row.table not in going:
            found.append((key, value))
    return found


def renewed(rows: Iterable[Row], state_id: str) -> list[Row]:
    return [(key, None if value is None else with_state_id(value, state_id)) for key, value in rows]


def tombstones(store: RocksStore, tables: Iterable[str]) -> Generator[Row, None, None]:
    """For every row of these tables but their marks; their progress last."""
    for table in tables:
        for kind in Kind:
            if kind is not Kind.PROGRESS:
                yield from ((key, None) for key, _ in store.scan(table_prefix(kind, table)))
        for key, _ in store.scan(table_prefix(Kind.PROGRESS, table)):
            if key != progress_key(Role.RESET, table):
                yield key, None
