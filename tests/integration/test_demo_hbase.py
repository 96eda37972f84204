"""The demo's verdict on a real HBase: what the sink wrote agrees, what a stranger changed is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.demo.hbase import read_archive_frontier, read_hbase
from app.demo.verdict import Truth
from app.demo.verdict_hbase import Wanted, hbase_findings
from domain.certificate import Certificate, ClassCount
from domain.progress import CountsProgress
from domain.rows import Cell, Kind, pack_cell, pack_certificate, window_prefix
from sinks.hbase.claim import Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseTable
from tests.hbase_rows import Stranger, new_table_name

END = 20


@pytest.fixture
def claimant() -> Claimant:
    return Claimant(new_table_name(), "demo", "clicks", "f00d")


@pytest.fixture
def truth(hbase_thrift: str, claimant: Claimant) -> Truth:
    """What the sink has put."""
    cells = {(0, b"/a"): Cell(3, 1, 9), (300_000, "/é".encode()): Cell(0, 2, 19)}
    certificates = {start: Certificate(9, ClassCount(3, 7, 1, 8), ClassCount(1, 5, 9, 9)) for start in (0, 300_000)}
    table, pool = claimant.table, Pool(hbase_thrift)
    shared = HBaseTable(pool, claimant)
    shared.claim()
    sink = shared.partition(2)
    rows = [
        (window_prefix(Kind.CELL, table, start) + key, pack_cell(one.on_time, one.late, one.offset))
        for (start, key), one in cells.items()
    ]
    sink.put_cells(rows, END)
    marks = [(window_prefix(Kind.CERTIFICATE, table, at), pack_certificate(one)) for at, one in certificates.items()]
    sink.put_certificates(marks, END)
    sink.put_frontier(END, 5000, END)
    pool.close()
    return Truth(tallies={}, stream_time=5000, cells=cells, certificates=certificates)


@pytest.fixture
def stranger(hbase_thrift: str, claimant: Claimant) -> Iterator[Stranger]:
    one = Stranger(hbase_thrift, claimant.table)
    yield one
    one.close()


def test_what_the_sink_put_agrees_until_a_stranger_changes_it(
    hbase_thrift: str, claimant: Claimant, truth: Truth, stranger: Stranger
) -> None:
    def findings() -> list[str]:
        tables = read_hbase(hbase_thrift, claimant.table)
        progress = CountsProgress(state_id="s", start=0, next_offset=END)
        return [one.what for one in hbase_findings(Wanted({2: truth}, {2: END}, {}, claimant), tables, {2: progress})]

    assert findings() == []
    assert read_hbase(hbase_thrift, claimant.table).total == 6
    assert read_archive_frontier(hbase_thrift, claimant.table) == {2: END}

    stranger.cell(0, b"/a", n2=4)  # at a later offset than the log has
    wrong, version = findings()
    assert "wrong counts: b'/a' n2 4, wanted 3" in wrong
    assert "true at next offset 101 of a log that ends at 20" in version
    stranger.counts.put(b"junk", {b"c:n2": b"?"})
    stranger.windows.put(b"0", {b"c:w2": b"?"})
    assert len(findings()) == 4
    stranger.frontier(2, END, 5000)
    assert any("wrong columns of the frontier" in one for one in findings())
    stranger.own("another", "clicks", "f00d")
    assert any("wrong owner rows" in one for one in findings())
