"""From a dirty set to the rows of a checkpoint: base values read once, per cut, never per event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from domain import rows
from domain.certificate import Certificate
from domain.fold import Dirty, DirtyWindow
from domain.keys import encode_key
from domain.rows import Kind, Row, table_prefix, window_prefix
from domain.window import Cuts
from tables.expiry import Dropped, Due, drop_expired
from tables.finals import Closing, Finals, finals_of
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
    dropped: Dropped
    finals: Finals


@dataclass(frozen=True, slots=True)
class Settling:
    """What else a checkpoint does for a table: the windows cuts touch, the finals to send, the cells that may go."""

    cuts: Cuts
    new_cuts: Cuts  # those the checkpoint before did not know, or not whole
    closing: Closing | None
    due: Due | None


def encode_table(store: RocksStore, table: str, dirty: Dirty, settling: Settling) -> TableRows:
    """Rows of a table's dirty set on top of the stored values, then what is due to be sent and to go.

    Certificates of windows that cuts touch are marked partial, stored ones too when a cut is new. The store must not
    change meanwhile.
    """
    found: list[Row] = []
    cells: list[Row] = []
    for start, window in sorted(dirty.items()):
        of_window = _cell_rows(store, table, start, window)
        cells += of_window
        found += of_window
        id_prefix = window_prefix(Kind.ID, table, start)
        found += [(id_prefix + one, rows.pack_id(offset)) for one, offset in window.ids.items()]
    written = dict(_partial_rows(store, table, settling.new_cuts))
    written.update(_certificate_rows(store, table, dirty, settling.cuts))
    finals, dropped = Finals(), Dropped()
    if settling.closing is not None:
        finals = finals_of(store, settling.closing, written)
        written.update(finals.certificates)
    if settling.due is not None:
        due = settling.due.after(finals, settling.closing)
        counting = {start for start, window in dirty.items() if window.last or window.ids}
        dropped = drop_expired(store, table, due, counting, written)
        written.update(dropped.certificates)
    certificates: list[Row] = sorted(written.items())
    found += certificates
    found += dropped.tombstones
    return TableRows(found, cells, certificates, dropped, finals)


def _cell_rows(store: RocksStore, table: str, start: int, window: DirtyWindow) -> list[Row]:
    prefix = window_prefix(Kind.CELL, table, start)
    keys = [prefix + encode_key(raw) for raw in window.last]
    on_time, late = window.on_time.get, window.late.get
    return [
        (key, rows.add_to_cell(stored, on_time(raw, 0), late(raw, 0), offset))
        for (raw, offset), key, stored in zip(window.last.items(), keys, store.get_many(keys), strict=True)
    ]


def _certificate_rows(store: RocksStore, table: str, dirty: Dirty, cuts: Cuts) -> list[tuple[bytes, bytes]]:
    touched = [(start, window.certificate) for start, window in sorted(dirty.items()) if window.certificate.offset >= 0]
    keys = [window_prefix(Kind.CERTIFICATE, table, start) for start, _ in touched]
    found: list[tuple[bytes, bytes]] = []
    for (start, added), key, stored in zip(touched, keys, store.get_many(keys), strict=True):
        certificate = Certificate() if stored is None else rows.unpack_certificate(stored)
        certificate.add(added)
        certificate.partial |= cuts.touch(start)
        found.append((key, rows.pack_certificate(certificate)))
    return found


def _partial_rows(store: RocksStore, table: str, cuts: Cuts) -> Iterator[tuple[bytes, bytes]]:
    """Stored certificates that new cuts make partial."""
    low, high = cuts.reach()
    if high < low:
        return
    prefix = table_prefix(Kind.CERTIFICATE, table)
    for key, value in store.scan(prefix, window_prefix(Kind.CERTIFICATE, table, max(0, low))):
        parsed = rows.parse_key(key)
        assert parsed is not None
        if parsed.start_ms > high:
            return
        one = rows.unpack_certificate(value)
        if not one.partial and cuts.touch(parsed.start_ms):
            one.partial = True
            yield key, rows.pack_certificate(one)


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
