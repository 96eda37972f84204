"""Cells whose window takes in nothing more leave the state, once every follower has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from domain import rows
from domain.rows import Kind, Row, table_prefix, window_prefix
from tables.finals import START, Closing, Finals
from tables.rocksdb import RocksStore


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: of windows that start at `until` or before, those whose events all followers are past.

    None that starts before `rows_from` has rows: looking there would step over every tombstone not yet compacted away.
    """

    rows_from: int
    until: int
    passed: int  # the lowest committed next offset of the followers
    limit: int  # rows in one checkpoint

    def after(self, finals: Finals, closing: Closing | None) -> Due:
        """Once finals have been sent: they share the limit, and a window's cells stay until its finals are gone."""
        if closing is None:
            return self
        sent_before = finals.cursors.get(START, closing.cursors.get(START, 0))
        return Due(self.rows_from, min(self.until, sent_before - 1), self.passed, self.limit - len(finals.records))


@dataclass(slots=True)
class Dropped:
    """Certificates to rewrite, then tombstones; `more` rows wait for the next checkpoint."""

    certificates: list[tuple[bytes, bytes]] = field(default_factory=list)
    tombstones: list[Row] = field(default_factory=list)
    rows_from: int = 0
    more: bool = False

    def stays(self, start: int) -> None:
        """A window has rows left."""
        self.rows_from = min(self.rows_from, start)


def drop_expired(
    store: RocksStore, table: str, due: Due, dirty: Collection[int], certificates: Mapping[bytes, bytes]
) -> Dropped:
    """Tombstones for what is due. `certificates` are the rows this checkpoint writes anyway, `dirty` its windows.

    A window is marked before its first cell goes, so that a part of it is never taken for the whole. The oldest window
    with rows left is found by looking: nothing needs to be kept, and what a restore brings back goes again.
    """
    # Above `until` nobody has looked; the dirty ones get rows with this very checkpoint.
    dropped = Dropped(rows_from=min([max(due.rows_from, due.until + 1), *dirty]))
    for start in _windows(store, table, due.rows_from, due.until):
        if start in dirty:
            continue
        key = window_prefix(Kind.CERTIFICATE, table, start)
        value = certificates.get(key) or store.get(key)
        if value is None:
            dropped.stays(start)  # cells that nothing vouches for: to be found
            continue
        one = rows.unpack_certificate(value)
        if max(one.on_time.last, one.late.last) >= due.passed:
            dropped.stays(start)
            continue
        room = due.limit - len(dropped.tombstones)
        found = [
            row for kind in (Kind.CELL, Kind.ID) for row in store.keys(window_prefix(kind, table, start), room + 1)
        ]
        if not one.dropped:
            one.dropped = True
            dropped.certificates.append((key, rows.pack_certificate(one)))
        dropped.tombstones += [(row, None) for row in found[:room]]
        if len(found) > room:
            dropped.more = True
            dropped.stays(start)
            break
    return dropped


def _windows(store: RocksStore, table: str, first: int, until: int) -> Iterator[int]:
    """Starts of the windows that have cells or event ids, ascending, each looked for by one seek."""
    while first <= until:
        firsts = [_first_window(store, table, kind, first) for kind in (Kind.CELL, Kind.ID)]
        start = min((one for one in firsts if one is not None), default=None)
        if start is None or start > until:
            return
        yield start
        first = start + 1


def _first_window(store: RocksStore, table: str, kind: Kind, start: int) -> int | None:
    prefix = table_prefix(kind, table)
    for key in store.keys(prefix, 1, window_prefix(kind, table, start)):
        parsed = rows.parse_key(key)
        assert parsed is not None
        return parsed.start_ms
    return None
