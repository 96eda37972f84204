"""The finals of closed windows: which records a checkpoint sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from domain import rows
from domain.certificate import Certificate
from domain.finals import Final, encode_final
from domain.rows import Kind, Row, table_prefix, window_prefix
from tables.rocksdb import RocksStore

START = "finals"
SENT = "finals_sent"


@dataclass(frozen=True, slots=True)
class Closing:
    """Windows that start at `until` or before had closed by the last checkpoint: the store has their whole count.

    `cursors` say how far finals were sent: the window, and how many cells of it. `reached` is where the next cell lies,
    empty where that isn't known.
    """

    table: str
    partition: int
    window_ms: int
    until: int
    cursors: Mapping[str, int]
    limit: int  # records in one checkpoint
    reached: bytes = b""

    @property
    def due(self) -> bool:
        return self.cursors.get(START, 0) <= self.until


@dataclass(slots=True)
class Finals:
    """Records to send, certificates to rewrite, and how far it got; `reached` spares the next reading what was sent."""

    records: list[Row] = field(default_factory=list)
    certificates: list[tuple[bytes, bytes]] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    reached: bytes = b""


def finals_of(store: RocksStore, closing: Closing, certificates: Mapping[bytes, bytes]) -> Finals:
    """The finals to send with this checkpoint; `certificates` are the rows it writes anyway.

    The on-time cells of a closed window and their order don't change any more, so that their number says how far a
    large window was sent.
    """
    finals = Finals()
    sent, reached = closing.cursors.get(SENT, 0), closing.reached
    for key, start, one in _closed(store, closing, certificates):
        if start != closing.cursors.get(START, 0):
            sent, reached = 0, b""
        if one.on_time.count and not (one.finals_done or one.dropped):
            room = closing.limit - len(finals.records)
            skip = 0 if reached else sent
            found = list(islice(_records(store, closing, start, one, reached), skip, skip + room + 1))
            finals.records += [record for _, record in found[:room]]
            if len(found) > room:
                finals.cursors, finals.reached = {START: start, SENT: sent + room}, found[room][0]
                return finals
            one.finals_done = True
            finals.certificates.append((key, rows.pack_certificate(one)))
    if closing.due:
        finals.cursors = {START: (closing.until // closing.window_ms + 1) * closing.window_ms, SENT: 0}
    return finals


def _closed(
    store: RocksStore, closing: Closing, certificates: Mapping[bytes, bytes]
) -> Iterator[tuple[bytes, int, Certificate]]:
    prefix = table_prefix(Kind.CERTIFICATE, closing.table)
    first = window_prefix(Kind.CERTIFICATE, closing.table, closing.cursors.get(START, 0))
    for key, value in store.scan(prefix, first):
        parsed = rows.parse_key(key)
        assert parsed is not None
        if parsed.start_ms > closing.until:
            return
        yield key, parsed.start_ms, rows.unpack_certificate(certificates.get(key, value))


def _records(
    store: RocksStore, closing: Closing, start: int, one: Certificate, reached: bytes
) -> Iterator[tuple[bytes, Row]]:
    """Where a cell lies, and its record."""
    prefix = window_prefix(Kind.CELL, closing.table, start)
    for key, value in store.scan(prefix, reached or prefix):
        cell = rows.unpack_cell(value)
        if cell.on_time:
            final = Final(closing.table, start, closing.partition, cell.on_time, one.on_time.last, one.partial)
            yield key, encode_final(key[len(prefix) :], final)
