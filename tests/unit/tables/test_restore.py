"""What is remembered of a changelog while it is read: offsets, never rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from domain import rows
from domain.progress import StateProgress, encode
from domain.rows import Kind, Role, Row, progress_key, window_prefix
from tables.changelog import Chunk
from tables.restore import _Tails

FIRST = 7


def cell(table: str, key: bytes = b"k") -> Row:
    return window_prefix(Kind.CELL, table, 1000) + key, rows.pack_cell(1, 0, 5)


def progress(table: str, role: Role = Role.STATE) -> Row:
    return progress_key(role, table), encode(StateProgress(state_id="one", fingerprint="", start=0, next_offset=9))


def noted(*chunks: Sequence[Row]) -> tuple[dict[str, int], list[str]]:
    tails, at, state_ids = _Tails(), FIRST, []
    for chunk in chunks:
        offsets = np.arange(at, at + len(chunk), dtype=np.int64)
        state_ids += tails.note(Chunk(offsets, [key for key, _ in chunk], [value for _, value in chunk]))
        at += len(chunk)
    return tails.loose(FIRST), state_ids


def test_rows_that_their_progress_followed_are_not_loose() -> None:
    assert noted([cell("a"), cell("a")], [cell("b"), progress("a"), progress("b")]) == ({}, ["one", "one"])


def test_rows_after_their_tables_progress_are_loose_from_there() -> None:
    assert noted([cell("a"), progress("a"), cell("b"), progress("b")], [cell("a")]) == ({"a": FIRST + 1}, ["one"] * 2)


def test_rows_that_no_progress_followed_are_loose_from_the_first_row_read() -> None:
    assert noted([cell("a"), cell("b"), progress("b")]) == ({"a": FIRST}, ["one"])


def test_only_a_tables_own_state_speaks_for_its_rows() -> None:
    found, state_ids = noted([cell("a"), progress("a", Role.COUNTS), progress("", Role.ARCHIVE)])
    assert (found, state_ids) == ({"a": FIRST}, ["one", "one"])


def test_rows_of_other_versions_are_passed_over() -> None:
    assert noted([(b"\x02c", b""), (b"", b"x"), (b"\x01", None), cell("a"), progress("a")]) == ({}, ["one"])


def test_a_progress_row_that_is_gone_speaks_for_nothing() -> None:
    assert noted([cell("a"), (progress("a")[0], None)]) == ({"a": FIRST}, [])
