"""What the reader makes of rows that another program put."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from domain.errors import CorruptRowError, SinkUnavailableError
from sinks.hbase.claim import Claimant, Owner
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseTable
from sinks.hbase.format import Frontier
from sinks.hbase.reader import PAGE_ROWS, HBaseReader, NoSuchTableError
from sinks.hbase.totals import CellTotal
from tests.hbase_rows import Stranger, certificate, count, new_table_name, row_of

START = 1_700_000_040_000
MINUTE = 60_000
KEYS = [b"", b"/home", b"a|b|c", b"|", b"\x00", b"\x00\xff\x00|\x00", b"}", b"\xff" * 9, b"k" * 4096, "é\n".encode()]


@pytest.fixture
def reader(stranger: Stranger) -> Iterator[HBaseReader]:
    pool = Pool(stranger.address)
    yield HBaseReader(pool, stranger.table)
    pool.close()


def test_columns_of_all_partitions_are_summed_and_the_largest_come_first(
    stranger: Stranger, reader: HBaseReader
) -> None:
    stranger.cell(START, b"a", n0=3, n12=4, l0=1)
    stranger.cell(START, b"b", n3=1, e3=8)
    stranger.cell(START, b"d", l1=5)
    stranger.cell(START, b"c", n1=5)
    stranger.cell(START + MINUTE, b"a", n0=100)
    stranger.cell(START - MINUTE, b"a", n0=100)
    top = reader.top(START, 3)
    assert top.cells == [CellTotal(b"b", 1, 0, 8), CellTotal(b"a", 7, 1, 0), CellTotal(b"c", 5, 0, 0)]
    assert (top.keys, top.on_time, top.late, top.expired) == (4, 13, 6, 8)
    assert [cell.count for cell in top.cells] == [9, 8, 5]


def test_every_key_comes_back_as_its_bytes(stranger: Stranger, reader: HBaseReader) -> None:
    for n, key in enumerate(KEYS, 1):
        stranger.cell(START, key, n0=n)
    assert {cell.key: cell.on_time for cell in reader.cells(START)} == {key: n for n, key in enumerate(KEYS, 1)}
    assert [cell.key for cell in reader.top(START, len(KEYS)).cells] == KEYS[::-1]
    for n, key in enumerate(KEYS, 1):
        assert reader.series(key, [START - MINUTE, START]) == {START: CellTotal(key, n, 0, 0)}


def test_zeros_and_what_is_not_ours_do_not_show(stranger: Stranger, reader: HBaseReader) -> None:
    stranger.cell(START, b"repaired", n0=0, l0=0, e1=0)
    stranger.cell(START, b"ours", n0=2)
    put, ours = stranger.counts.put, row_of(START, b"ours")
    put(
        ours,
        {b"c:x0": b"?", b"c:n": b"?", b"c:n00": count(7), b"c:n-1": b"", b"c:note": b"?", b"c:n" + b"9" * 5000: b""},
    )
    wrong_salt = b"%02x" % (int(ours[:2], 16) ^ 1) + ours[2:]
    for row in (wrong_salt, ours[:3] + b"%016d" % START + ours[18:], ours[:18], b"check", b"00", b"00|x", b"\xff" * 30):
        put(row, {b"c:n0": count(50)})
    assert list(reader.cells(START)) == [CellTotal(b"ours", 2, 0, 0)]
    assert reader.top(START, 10).cells == [CellTotal(b"ours", 2, 0, 0)]
    assert reader.series(b"repaired", [START]) == {}


def test_an_older_version_put_later_does_not_show(stranger: Stranger, reader: HBaseReader) -> None:
    stranger.cell(START, b"a", at=9, n0=5)
    stranger.cell(START, b"a", at=8, n0=4)
    stranger.counts.put(row_of(START, b"a"), {b"c:n0": count(99)})  # stamped by the clock
    assert reader.series(b"a", [START])[START].count == 5


@pytest.mark.parametrize("value", [b"", b"1", count(1) + b"\0", count(2**53 + 1)])
def test_a_damaged_count_names_its_table_row_and_column(stranger: Stranger, reader: HBaseReader, value: bytes) -> None:
    stranger.counts.put(row_of(START, b"bad"), {b"c:n7": value}, timestamp=2**48 + 1)
    for read in (
        lambda: reader.top(START, 1),
        lambda: list(reader.cells(START)),
        lambda: reader.series(b"bad", [START]),
    ):
        with pytest.raises(CorruptRowError, match=rf"recount_{stranger.table}, row b'..\|\d{{15}}\|bad', column c:n7"):
            read()
    stranger.cell(START + MINUTE, b"good", n0=1)
    assert reader.top(START + MINUTE, 1).keys == 1, "the connections are fit for the next question"


def test_more_rows_than_a_page(stranger: Stranger, reader: HBaseReader) -> None:
    with stranger.counts.batch(timestamp=2**48 + 1) as batch:
        keys = [b"%d" % n for n in range(400_000) if row_of(0, b"%d" % n)[:2] == b"00"]
        for key in keys:
            batch.put(row_of(START, key), {b"c:n0": count(1)})
    assert len(keys) > PAGE_ROWS
    assert sorted(cell.key for cell in reader.cells(START)) == sorted(keys)
    assert reader.top(START, 5).keys == len(keys)


def test_a_key_over_more_windows_than_one_question_holds(stranger: Stranger, reader: HBaseReader) -> None:
    starts = [START + n * MINUTE for n in range(PAGE_ROWS + 50)]
    for start in (starts[0], starts[-1]):
        stranger.cell(start, b"k", n0=1, l0=2)
    stranger.cell(starts[1], b"other", n0=9)
    wanted = {start: CellTotal(b"k", 1, 2, 0) for start in (starts[0], starts[-1])}
    assert reader.series(b"k", reversed(starts)) == wanted
    assert list(reader.series(b"k", reversed(starts))) == list(wanted)
    assert reader.series(b"k", []) == {}


def test_windows_are_the_rows_of_digits_in_the_range(stranger: Stranger, reader: HBaseReader) -> None:
    for n in range(4):
        stranger.certify(START + n * MINUTE, n % 2, certificate(n + 1, late=1, partial=n == 2))
    stranger.certify(START + MINUTE, 10, certificate(7))
    stranger.frontier(0, 5, START)
    stranger.own("app", "clicks", "f")
    for row in (b"check", b"%d" % START, b"%015dx" % (START + MINUTE), b"0" * 14 + b"x"):
        stranger.windows.put(row, {b"c:w0": b"?", b"c:check": b"1"})
    stranger.windows.put(b"%015d" % START, {b"c:r0": b"12345678", b"c:wx": b"?"})
    found = reader.windows(START + MINUTE, START + 3 * MINUTE)
    assert [(one.start_ms, dict(one.partitions)) for one in found] == [
        (START + MINUTE, {1: certificate(2, late=1), 10: certificate(7)}),
        (START + 2 * MINUTE, {0: certificate(3, late=1, partial=True)}),
    ]
    assert len(reader.windows(-5, 10**20)) == 4
    assert reader.windows(START, START) == []


def test_a_damaged_certificate_is_named(stranger: Stranger, reader: HBaseReader) -> None:
    stranger.windows.put(b"%015d" % START, {b"c:w3": b"short"})
    with pytest.raises(CorruptRowError, match=f"recount_{stranger.table}_windows, row b'{START:015d}', column c:w3"):
        reader.windows(0, START + 1)


def test_frontier_and_archive_by_partition(stranger: Stranger, reader: HBaseReader) -> None:
    assert (reader.frontier(), reader.archive(), reader.owner()) == ({}, {}, None)
    stranger.frontier(11, 41, START, archive=30)
    stranger.frontier(2, 9, -1)
    stranger.windows.put(b"frontier", {b"c:c": b"?", b"c:cx": b"?"})
    assert reader.frontier() == {2: Frontier(10, None), 11: Frontier(42, START)}
    assert list(reader.frontier()) == [2, 11]
    assert reader.archive() == {11: 30}
    stranger.own("app", "clicks", "f")
    assert reader.owner() == Owner(app="app", topic="clicks", fingerprint="f", table_id="0011")
    stranger.windows.put(b"frontier", {b"c:a11": b"short"}, timestamp=2**50)
    with pytest.raises(CorruptRowError, match="row b'frontier', column c:a11"):
        reader.archive()


def test_it_reads_what_the_worker_puts(hbase_thrift: str) -> None:
    pool = Pool(hbase_thrift)
    table = HBaseTable(pool, Claimant(new_table_name(), "app", "clicks", "f"))
    sink, name = table.partition(4), table.claimant.table
    from domain import rows
    from domain.rows import Kind, window_prefix

    sink.claim()
    sink.put_cells([(window_prefix(Kind.CELL, name, START) + b"a|", rows.pack_cell(3, 2, 70))], 80)
    sink.put_certificates(
        [(window_prefix(Kind.CERTIFICATE, name, START), rows.pack_certificate(certificate(3, 2)))], 80
    )
    sink.put_frontier(80, START, 60)
    reader = HBaseReader(pool, name)
    assert list(reader.cells(START)) == [CellTotal(b"a|", 3, 2, 0)]
    assert [dict(one.partitions) for one in reader.windows(START, START + 1)] == [{4: certificate(3, 2)}]
    assert (reader.frontier(), reader.archive()) == ({4: Frontier(80, START)}, {4: 60})
    pool.close()


def test_a_missing_table_is_told_from_a_server_that_is_away(hbase_thrift: str) -> None:
    pool = Pool(hbase_thrift)
    missing, away = HBaseReader(pool, "never"), HBaseReader(Pool("127.0.0.1:1"), "never")
    for reader, error in ((missing, NoSuchTableError), (away, SinkUnavailableError)):
        for read in (
            reader.owner,
            reader.frontier,
            lambda one=reader: one.windows(0, 1),
            lambda one=reader: one.top(0, 1),
            lambda one=reader: list(one.cells(0)),
            lambda one=reader: one.series(b"", [0]),
        ):
            with pytest.raises(error):
                read()
    pool.close()


def test_a_table_dropped_between_two_reads_is_missing(stranger: Stranger, reader: HBaseReader) -> None:
    assert reader.top(START, 1).keys == 0
    stranger.connection.disable_table(f"recount_{stranger.table}")
    with pytest.raises(SinkUnavailableError, match="disabled"):
        reader.top(START, 1)
    stranger.connection.delete_table(f"recount_{stranger.table}")
    with pytest.raises(NoSuchTableError, match=f"recount_{stranger.table} "):
        reader.top(START, 1)


def test_a_top_told_to_stop_ends(stranger: Stranger, reader: HBaseReader) -> None:
    stranger.cell(START, b"a", n0=1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(SinkUnavailableError, match="told to stop"):
        reader.top(START, 1, stop)
