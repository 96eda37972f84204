"""Rows in HBase are a contract: byte for byte as committed, and read back as written."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import CorruptRowError
from sinks.hbase import format as hbase
from sinks.hbase.claim import Owner
from sinks.hbase.format import Frontier

GOLDEN = Path(__file__).parents[2] / "golden" / "hbase" / "rows.txt"
START = 1_700_000_100_000
OWNER = Owner(app="clicks", topic="clicks", fingerprint="fedcba9876543210", table_id="0123456789abcdef")


def written() -> Iterator[tuple[str, bytes]]:
    yield "tables", " ".join([*hbase.hbase_tables("page_views"), hbase.events_table("clicks")]).encode()
    yield "cell row", hbase.cell_row(START, b"page")
    yield "cell row of an empty key in the first window", hbase.cell_row(0, b"")
    yield "cell row of the last window", hbase.cell_row(253_402_300_799_999, b"a|b\x00\xff")
    yield "window row", hbase.window_row(START)
    yield "on time column", hbase.column("n", 0)
    yield "archive column", hbase.column("a", 12)
    yield "version of nothing", str(hbase.version(0)).encode()
    yield "version after offset 41", str(hbase.version(42)).encode()
    yield "frontier", hbase.pack_frontier(Frontier(42, START))
    yield "frontier without stream time", hbase.pack_frontier(Frontier(0, None))
    yield "archive's next offset", hbase.pack_offset(42)
    yield "owner", msgspec.json.encode(OWNER)


def golden() -> dict[str, bytes]:
    """`name<tab>hex` a line."""
    lines = GOLDEN.read_text("utf-8").splitlines()
    return {label: bytes.fromhex(content) for label, content in (line.split("\t") for line in lines)}


def test_rows_are_byte_for_byte_as_committed() -> None:
    assert golden() == dict(written())


def test_committed_rows_are_read_as_they_were_meant() -> None:
    committed = golden()
    assert committed["tables"] == b"recount_page_views recount_page_views_windows recount_clicks_events"
    assert committed["cell row"] == b"%02x|%015d|page" % (zlib.crc32(b"page") & 255, START)
    assert hbase.parse_cell_row(committed["cell row"]) == (START, b"page")
    assert int(committed["version after offset 41"]) == 2**48 + 41 + 1
    assert hbase.unpack_frontier(committed["frontier"]) == Frontier(42, START)
    assert hbase.unpack_frontier(committed["frontier without stream time"]) == Frontier(0, None)
    assert hbase.unpack_offset(committed["archive's next offset"]) == 42
    assert msgspec.json.decode(committed["owner"], type=Owner) == OWNER


@given(st.integers(0, 253_402_300_799_999), st.binary(max_size=40))
def test_a_cell_row_is_read_back(start: int, key: bytes) -> None:
    assert hbase.parse_cell_row(hbase.cell_row(start, key)) == (start, key)


@given(st.integers(0, 999_999), st.sampled_from("nlewcar"))
def test_a_column_is_read_back(partition: int, letter: str) -> None:
    assert hbase.parse_column(hbase.column(letter, partition)) == (letter, partition)


@given(st.integers(0, 2**62))
def test_a_version_is_read_back_and_above_any_clock(next_offset: int) -> None:
    assert hbase.next_offset_of(hbase.version(next_offset)) == next_offset
    assert hbase.version(next_offset) > 253_402_300_799_999
    assert hbase.next_offset_of(1_700_000_000_000) is None


@pytest.mark.parametrize(
    "row", [b"", b"owner", b"zz|000000000000000|a", b"%02x|00000000000000x|" % 0, b"00|000000000000000|page", b"00|0|"]
)
def test_a_row_that_is_not_one_of_ours_is_told(row: bytes) -> None:
    assert hbase.parse_cell_row(row) is None


@pytest.mark.parametrize(
    "name", [b"", b"c:", b"c:n", b"c:owner", b"d:n1", b"c:n-1", b"c:n1 ", b"c:n00", b"c:n" + b"9" * 5000]
)
def test_a_column_that_is_not_one_of_ours_is_told(name: bytes) -> None:
    assert hbase.parse_column(name) is None


@pytest.mark.parametrize("unpack", [hbase.unpack_count, hbase.unpack_frontier, hbase.unpack_offset])
def test_a_value_of_another_length_is_damaged(unpack: object) -> None:
    assert callable(unpack)
    with pytest.raises(CorruptRowError, match="of 3 bytes"):
        unpack(b"abc")
