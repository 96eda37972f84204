"""Does HBase agree? Pure: the oracle's answer against every row and column of one table's two tables in HBase."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from app.demo.hbase import Columns, Rows, Tables
from app.demo.verdict import SHOWN, CellKey, Finding, Truth, same_counts
from domain.errors import CorruptRowError
from domain.progress import CountsProgress
from domain.rows import unpack_certificate
from sinks.hbase.claim import Claimant
from sinks.hbase.format import (
    FAMILY,
    FRONTIER_ROW,
    OWNER_ROW,
    Frontier,
    next_offset_of,
    parse_cell_row,
    parse_column,
    parse_window_row,
    unpack_count,
    unpack_frontier,
    unpack_offset,
)

OWNER_COLUMN = f"{FAMILY}:owner".encode()
NOT_OURS = "that aren't ours"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What HBase should say. The mappings are by partition; in `expired` are windows whose cells may be dropped."""

    truths: Mapping[int, Truth]
    ends: Mapping[int, int]
    expired: Mapping[int, Collection[int]]
    claimant: Claimant

    def end(self, partition: int) -> int:
        return self.ends.get(partition, 0)

    def stale(self, partition: int, timestamp: int, least: int) -> str | None:
        """What is wrong with a version, which is the next offset its value is true at.

        It is at least the next offset after the last event the value counts, and at most the log's end.
        """
        at = next_offset_of(timestamp)
        if at is None:
            return f"stamped {timestamp} by a clock"
        if at > self.end(partition):
            return f"true at next offset {at} of a log that ends at {self.end(partition)}"
        return f"true at next offset {at}, though it counts up to {least}" if at < least else None


@dataclass(slots=True)
class _Groups:
    """Findings of one kind and window as one."""

    where: str
    texts: dict[tuple[str, int | None], list[str]] = field(default_factory=dict)

    def add(self, kind: str, text: str, start_ms: int | None = None) -> None:
        self.texts.setdefault((kind, start_ms), []).append(text)

    def findings(self) -> Iterator[Finding]:
        for (kind, start_ms), texts in self.texts.items():
            yield Finding(f"{self.where}: {len(texts)} {kind}: {'; '.join(sorted(texts)[:SHOWN])}", start_ms)


def hbase_findings(wanted: Wanted, tables: Tables, progress: Mapping[int, CountsProgress | None]) -> list[Finding]:
    """Every row and column of HBase against the truth: values, versions, and none too many.

    `progress` is what the changelog says of HBase, by partition.
    """
    found = _Groups("HBase")
    _counts(wanted, tables.counts, found)
    for row, columns in tables.windows.items():
        if row not in (FRONTIER_ROW, OWNER_ROW) and parse_window_row(row) is None:
            found.add(f"rows of windows {NOT_OURS}", repr((row, sorted(columns))))
    _certificates(wanted, tables.windows, found)
    _frontier(wanted, tables.windows.get(FRONTIER_ROW, {}), found)
    table_id = _owner(wanted.claimant, tables.windows.get(OWNER_ROW, {}), found)
    for partition, one in sorted(progress.items()):
        # It may be behind: it is committed with a later checkpoint than the frontier was put.
        if one is None or one.next_offset > wanted.end(partition) or one.table_id not in ("", table_id):
            found.add("wrong words of the changelog", f"partition {partition}: {one}, table id {table_id}")
    return list(found.findings())


def _counts(wanted: Wanted, rows: Rows, found: _Groups) -> None:
    left = {
        (partition, letter, at): count
        for partition, truth in wanted.truths.items()
        for at, cell in truth.cells.items()
        for letter, count in (("n", cell.on_time), ("l", cell.late))
        if count
    }
    for row, columns in rows.items():
        at = parse_cell_row(row)
        if at is None:
            found.add(f"rows {NOT_OURS}", repr((row, sorted(columns))))
            continue
        for name, (value, timestamp) in columns.items():
            parsed = parse_column(name)
            if parsed is None or parsed[0] not in "nl" or parsed[1] not in wanted.truths:
                found.add(f"columns {NOT_OURS}", f"{row!r} {name!r}", at[0])
                continue
            letter, partition = parsed
            _count(wanted, (partition, letter, at), left.pop((partition, letter, at), 0), value, timestamp, found)
    for (partition, letter, at), count in left.items():
        found.add("missing counts", f"{at[1]!r} {letter}{partition}, wanted {count}", at[0])


def _count(
    wanted: Wanted, place: tuple[int, str, CellKey], count: int, value: bytes, timestamp: int, found: _Groups
) -> None:
    partition, letter, at = place
    text = f"{at[1]!r} {letter}{partition}"
    try:
        got = unpack_count(value)
    except CorruptRowError as err:
        found.add("unreadable counts", f"{text}: {err}", at[0])
        return
    if got != count:  # to a reader an absent one is 0
        found.add("wrong counts", f"{text} {got}, wanted {count}", at[0])
    cell = wanted.truths[partition].cells.get(at)
    if stale := wanted.stale(partition, timestamp, 0 if cell is None else cell.offset + 1):
        found.add("counts of a wrong version", f"{text} {stale}", at[0])


def _certificates(wanted: Wanted, rows: Rows, found: _Groups) -> None:
    left = {(start, partition) for partition, truth in wanted.truths.items() for start in truth.certificates}
    for row, columns in rows.items():
        start = parse_window_row(row)
        if start is None:
            continue
        for name, (value, timestamp) in columns.items():
            parsed = parse_column(name)
            if parsed is None or parsed[0] != "w" or parsed[1] not in wanted.truths:
                found.add(f"columns {NOT_OURS}", f"{row!r} {name!r}", start)
                continue
            left.discard((start, parsed[1]))
            _certificate(wanted, start, parsed[1], value, timestamp, found)
    for start, partition in left:
        found.add("missing certificates", f"partition {partition}", start)


def _certificate(wanted: Wanted, start: int, partition: int, value: bytes, timestamp: int, found: _Groups) -> None:
    text = f"partition {partition}"
    try:
        got = unpack_certificate(value)
    except CorruptRowError as err:
        found.add("unreadable certificates", f"{text}: {err}", start)
        return
    one = wanted.truths[partition].certificates.get(start)
    if not same_counts(one, got):
        found.add("wrong certificates", f"{text}: {got}, wanted {one}", start)
    if got.dropped and start not in wanted.expired.get(partition, ()):
        found.add("certificates dropped before their time", text, start)
    if stale := wanted.stale(partition, timestamp, 0 if one is None else one.offset + 1):
        found.add("certificates of a wrong version", f"{text} {stale}", start)


def _frontier(wanted: Wanted, columns: Columns, found: _Groups) -> None:
    left = {(letter, partition) for partition in wanted.truths for letter in "ca" if wanted.end(partition)}
    for name, (value, timestamp) in columns.items():
        parsed = parse_column(name)
        if parsed is None or parsed[0] not in "ca" or parsed[1] not in wanted.truths:
            found.add(f"columns of the frontier {NOT_OURS}", repr(name))
            continue
        left.discard(parsed)
        letter, partition = parsed
        end = wanted.end(partition)
        one: Frontier | int = Frontier(end, wanted.truths[partition].stream_time) if letter == "c" else end
        try:
            got = unpack_frontier(value) if letter == "c" else unpack_offset(value)
        except CorruptRowError as err:
            found.add("unreadable columns of the frontier", f"{letter}{partition}: {err}")
            continue
        if got != one or next_offset_of(timestamp) != end:
            at = f"at version {timestamp}"
            found.add("wrong columns of the frontier", f"{letter}{partition} {got} {at}, wanted {one} at {end}")
    for letter, partition in left:
        found.add("missing columns of the frontier", f"{letter}{partition}")


def _owner(claimant: Claimant, columns: Columns, found: _Groups) -> str:
    """Returns the table id, empty where it can't be told."""
    ours = {"app": claimant.app, "topic": claimant.topic, "fingerprint": claimant.fingerprint, "format": 1}
    got = None
    with suppress(ValueError):  # not JSON
        got = json.loads(columns.get(OWNER_COLUMN, (b"", 0))[0])
    table_id = got.pop("table_id", None) if isinstance(got, dict) else None
    if not isinstance(table_id, str) or not table_id or got != ours or len(columns) != 1:
        found.add("wrong owner rows", f"{dict(columns)}, wanted {ours}")
        return ""
    return table_id
