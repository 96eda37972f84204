"""Reading a table's counts from the state again, for a sink that fell behind. Synchronous: runs in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from domain.errors import CorruptRowError
from domain.progress import StateProgress, decode_state
from domain.rows import Kind, Role, Row, parse_key, progress_key, table_prefix, unpack_cell, unpack_certificate
from tables.rocksdb import AFTER, RocksStore

CHUNK_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows as of one moment, true at `next_offset - 1`."""

    rows: list[Row]
    next_offset: int


class Rescan:
    """The rows of a table whose own offset is `since` or more, and certificates with a flag, which have no offset.

    What a restore brought back of a window that was dropped is left out. `progress` is read first: what changes after
    it is in a later checkpoint. Nothing is held between two chunks, neither rows (a year of certificates is many) nor
    a snapshot: the partition may be given up in the middle, and reading on then raises `StoreClosedError`.
    """

    def __init__(self, store: RocksStore, table: str, since: int) -> None:
        self._store = store
        self._table = table
        self._since = since
        self._progress_row = progress_key(Role.STATE, table)
        self.progress = self._progress(store.get(self._progress_row))
        self.lost_until = -1
        """Start of the newest window that left the state with events the sink lacks; known after `certificates`."""

    def certificates(self) -> Iterator[Chunk]:
        """To be put after the cells."""
        for chunk in self._chunks(Kind.CERTIFICATE, b""):
            self._note_lost(chunk.rows)
            yield chunk

    def _note_lost(self, rows: list[Row]) -> None:
        """Windows wait for their sink before they go: not for one emptied since, or not configured then."""
        for key, value in rows:
            assert value is not None
            one = unpack_certificate(value)
            if one.dropped and max(one.on_time.last, one.late.last) >= self._since:
                parsed = parse_key(key)
                assert parsed is not None
                self.lost_until = max(self.lost_until, parsed.start_ms)

    def cells(self) -> Iterator[Chunk]:
        """Cells, of windows that have an event since then; each chunk true at an offset of its own."""
        held = Chunk([], -1)
        for chunk in self._windows():
            # Small windows go together, as long as all of them are true at one offset.
            if chunk.next_offset == held.next_offset and len(held.rows) + len(chunk.rows) <= CHUNK_ROWS:
                held.rows.extend(chunk.rows)
                continue
            if held.rows:
                yield held
            held = chunk
        if held.rows:
            yield held

    def _windows(self) -> Iterator[Chunk]:
        name = len(table_prefix(Kind.CERTIFICATE, self._table))
        for chunk in self.certificates():
            for key, value in chunk.rows:
                assert value is not None
                one = unpack_certificate(value)
                if one.offset >= self._since and not one.dropped:
                    yield from self._chunks(Kind.CELL, key[name:])

    def _chunks(self, kind: Kind, window: bytes) -> Iterator[Chunk]:
        is_new = self._is_new_cell if kind is Kind.CELL else self._is_new_certificate
        prefix = table_prefix(kind, self._table) + window
        at = prefix
        while True:
            glimpse = self._store.read(prefix, at, CHUNK_ROWS, also=self._progress_row)
            rows: list[Row] = [row for row in glimpse.rows if is_new(row[1])]
            if rows:
                yield Chunk(rows, self._progress(glimpse.also).next_offset)
            if len(glimpse.rows) < CHUNK_ROWS:
                return
            at = glimpse.rows[-1][0] + AFTER

    def _is_new_cell(self, value: bytes) -> bool:
        return unpack_cell(value).offset >= self._since

    def _is_new_certificate(self, value: bytes) -> bool:
        one = unpack_certificate(value)
        return one.offset >= self._since or one.partial or one.finals_done or one.dropped

    def _progress(self, value: bytes | None) -> StateProgress:
        if value is None:
            raise CorruptRowError(f"the store has no progress of table {self._table}")
        return decode_state(value)
