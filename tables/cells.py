"""From a dirty set to the rows of a checkpoint: base values read once, per cut, never per event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain import rows
from domain.certificate import Certificate
from domain.fold import Dirty, DirtyWindow
from domain.keys import encode_key
from domain.rows import Kind, Row, window_prefix
from tables.rocksdb import RocksStore


def dirty_size(dirty: Dirty) -> int:
    """Cells and event ids touched since the last cut."""
    return sum(len(window.last) + len(window.ids) for window in dirty.values())


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table's rows in one checkpoint: all in commit order, and cells and certificates apart."""

    rows: Sequence[Row]
    cells: Sequence[Row]
    certificates: Sequence[Row]


def encode_dirty(store: RocksStore, table: str, dirty: Dirty) -> TableRows:
    """Rows of a table's dirty set on top of the stored values. The store must not change meanwhile."""
    found: list[Row] = []
    cells: list[Row] = []
    for start, window in sorted(dirty.items()):
        of_window = _cell_rows(store, table, start, window)
        cells += of_window
        found += of_window
        id_prefix = window_prefix(Kind.ID, table, start)
        found += [(id_prefix + one, rows.pack_id(offset)) for one, offset in window.ids.items()]
    certificates = _certificate_rows(store, table, dirty)
    found += certificates
    return TableRows(found, cells, certificates)


def _cell_rows(store: RocksStore, table: str, start: int, window: DirtyWindow) -> list[Row]:
    prefix = window_prefix(Kind.CELL, table, start)
    keys = [prefix + encode_key(raw) for raw in window.last]
    on_time, late = window.on_time.get, window.late.get
    return [
        (key, rows.add_to_cell(stored, on_time(raw, 0), late(raw, 0), offset))
        for (raw, offset), key, stored in zip(window.last.items(), keys, store.get_many(keys), strict=True)
    ]


def _certificate_rows(store: RocksStore, table: str, dirty: Dirty) -> list[Row]:
    touched = [(start, window.certificate) for start, window in sorted(dirty.items()) if window.certificate.offset >= 0]
    keys = [window_prefix(Kind.CERTIFICATE, table, start) for start, _ in touched]
    found: list[Row] = []
    for (_, added), key, stored in zip(touched, keys, store.get_many(keys), strict=True):
        certificate = Certificate() if stored is None else rows.unpack_certificate(stored)
        certificate.add(added)
        found.append((key, rows.pack_certificate(certificate)))
    return found


def known_ids(store: RocksStore, table: str, in_flight: Dirty, start: int, ids: Sequence[bytes]) -> list[int | None]:
    """The offset each event id was first counted at: in the cut being committed, or stored."""
    prefix = window_prefix(Kind.ID, table, start)
    window = in_flight.get(start)
    pending = window.ids if window is not None else {}
    stored = store.get_many([prefix + one for one in ids])
    return [
        pending.get(one, None if value is None else rows.unpack_id(value))
        for one, value in zip(ids, stored, strict=True)
    ]
