"""Rows of HBase as values, without HBase."""

from __future__ import annotations

import pytest

from domain.errors import CorruptRowError
from sinks.hbase.totals import COUNT_MAX, CellTotal, by_partition, cell_of
from tests.hbase_rows import count, row_of

ROW = row_of(60_000, b"k|\0")


def test_counts_are_summed_by_letter_over_partitions() -> None:
    columns = {b"c:n0": count(1), b"c:n10": count(2), b"c:l0": count(4), b"c:e3": count(8)}
    assert cell_of("t", ROW, columns) == CellTotal(b"k|\0", 3, 4, 8)
    assert CellTotal(b"", 3, 4, 8).count == 15


@pytest.mark.parametrize(
    "name", [b"c:n", b"c:nx", b"c:n01", b"c:n-1", b"c:n+1", b"c:N0", b"d:n0", b"c:x0", b"n0", b"c:n" + b"9" * 5000]
)
def test_a_column_of_another_name_is_not_looked_at(name: bytes) -> None:
    assert cell_of("t", ROW, {name: b"?", b"c:n1": count(1)}) == CellTotal(b"k|\0", 1, 0, 0)
    assert by_partition("t", ROW, {name: b"?"}, "n", len) == {}


def test_a_cell_of_zeros_and_a_foreign_row_are_none() -> None:
    assert cell_of("t", ROW, {b"c:n0": count(0), b"c:l3": count(0)}) is None
    assert cell_of("t", ROW, {}) is None
    assert cell_of("t", b"check", {b"c:n0": b"?"}) is None


@pytest.mark.parametrize("value", [b"", count(1)[1:], count(1) + b"\0", count(COUNT_MAX + 1), b"\xff" * 8])
def test_a_damaged_count_is_named(value: bytes) -> None:
    with pytest.raises(CorruptRowError, match=r"HBase table t, row .*, column c:n0: "):
        cell_of("t", ROW, {b"c:n0": value})


def test_the_largest_count_is_no_damage() -> None:
    assert cell_of("t", ROW, {b"c:n0": count(COUNT_MAX)}) == CellTotal(b"k|\0", COUNT_MAX, 0, 0)


def test_partitions_come_ascending() -> None:
    columns = {b"c:w10": b"a", b"c:w9": b"bb", b"c:r9": b"?", b"c:w": b"?"}
    assert list(by_partition("t", b"row", columns, "w", len).items()) == [(9, 2), (10, 1)]
