"""The verdict sees everything that is wrong in HBase: each test breaks one thing of tables in which all agrees."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.demo.hbase import Tables
from app.demo.verdict import Truth
from app.demo.verdict_hbase import Wanted, hbase_findings
from domain.certificate import Certificate, ClassCount
from domain.progress import CountsProgress
from domain.rows import Cell, pack_certificate
from sinks.hbase.claim import Claimant
from tests.hbase_rows import BASE, count, row_of

END = 20
CLAIMANT = Claimant("page_views", "demo", "clicks", "f00d")
OWNER = {"app": "demo", "topic": "clicks", "fingerprint": "f00d", "table_id": "0011", "format": 1}
PROGRESS = CountsProgress(state_id="s", start=0, next_offset=END - 1, table_id="0011")
ROW_A, ROW_B, WINDOW = row_of(0, b"/a"), row_of(1000, b"/b"), b"%015d" % 0
CERTIFICATE = Certificate(9, ClassCount(3, 77, 1, 8), ClassCount(1, 5, 9, 9), ClassCount())
TRUTH = Truth(
    tallies={"on_time": 5, "late": 1},
    stream_time=5000,
    cells={(0, b"/a"): Cell(3, 1, 9), (1000, b"/b"): Cell(2, 0, 19)},
    certificates={0: CERTIFICATE, 1000: Certificate(19, ClassCount(2, 9, 18, 19))},
)
NOTHING = Truth(tallies={}, stream_time=None, cells={}, certificates={})

Rows = dict[bytes, dict[bytes, tuple[bytes, int]]]


def frontier(next_offset: int, stream_time: int) -> bytes:
    return struct.pack(">qq", next_offset - 1, stream_time)


class Broken:
    """Tables that agree, until something is changed."""

    def __init__(self) -> None:
        end = BASE + END
        second = TRUTH.certificates[1000]
        self.counts: Rows = {
            ROW_A: {b"c:n1": (count(3), BASE + 10), b"c:l1": (count(1), BASE + 10)},
            ROW_B: {b"c:n1": (count(2), end)},
        }
        self.windows: Rows = {
            WINDOW: {b"c:w1": (pack_certificate(CERTIFICATE), BASE + 10)},
            b"%015d" % 1000: {b"c:w1": (pack_certificate(second), end)},
            b"frontier": {b"c:c1": (frontier(END, 5000), end), b"c:a1": (struct.pack(">q", END), end)},
            b"owner": {b"c:owner": (json.dumps(OWNER).encode(), 1_790_000_000_000)},
        }
        self.progress: CountsProgress | None = PROGRESS
        self.expired = {1: {0}}

    @property
    def tables(self) -> Tables:
        return Tables(self.counts, self.windows)

    def findings(self) -> list[str]:
        wanted = Wanted({0: NOTHING, 1: TRUTH}, {1: END}, self.expired, CLAIMANT)
        found = hbase_findings(wanted, self.tables, {1: self.progress})
        return [one.what if one.start_ms is None else f"{one.start_ms}: {one.what}" for one in found]


@pytest.fixture
def broken() -> Broken:
    return Broken()


def test_tables_in_which_everything_agrees_give_no_finding(broken: Broken) -> None:
    assert broken.findings() == []
    assert broken.tables.total == 6
    assert (broken.tables.in_window(0), broken.tables.in_window(1000), broken.tables.in_window(7)) == (4, 2, 0)


def put(b: Broken, row: bytes, name: bytes, value: bytes, at: int = END) -> None:
    rows = b.counts if b"|" in row else b.windows
    rows.setdefault(row, {})[name] = (value, BASE + at)


def stamp(b: Broken, row: bytes, name: bytes, timestamp: int) -> None:
    rows = b.counts if b"|" in row else b.windows
    rows[row][name] = (rows[row][name][0], timestamp)


def owner(b: Broken, **changed: object) -> None:
    put(b, b"owner", b"c:owner", json.dumps(OWNER | changed).encode())


def certify(b: Broken, one: Certificate) -> None:
    put(b, WINDOW, b"c:w1", pack_certificate(one), 10)


BREAKS: list[tuple[str, Callable[[Broken], object]]] = [
    ("0: HBase: 1 wrong counts: b'/a' n1 4, wanted 3", lambda b: put(b, ROW_A, b"c:n1", count(4))),
    ("0: HBase: 1 wrong counts: b'/a' l1 0, wanted 1", lambda b: put(b, ROW_A, b"c:l1", count(0))),
    ("0: HBase: 1 wrong counts: b'/a' n0 1, wanted 0", lambda b: put(b, ROW_A, b"c:n0", count(1), 0)),
    ("0: HBase: 1 missing counts: b'/a' l1, wanted 1", lambda b: b.counts[ROW_A].pop(b"c:l1")),
    ("1000: HBase: 1 missing counts: b'/b' n1, wanted 2", lambda b: b.counts.pop(ROW_B)),
    ("50000: HBase: 1 wrong counts", lambda b: put(b, row_of(50_000, b"/x"), b"c:n1", count(1))),
    ("0: HBase: 1 unreadable counts", lambda b: put(b, ROW_A, b"c:n1", b"3")),
    ("0: HBase: 1 columns that aren't ours", lambda b: put(b, ROW_A, b"c:e1", count(0))),
    ("0: HBase: 1 columns that aren't ours", lambda b: put(b, ROW_A, b"c:n2", count(0))),
    ("0: HBase: 1 columns that aren't ours", lambda b: put(b, ROW_A, b"c:n01", count(0))),
    ("0: HBase: 1 columns that aren't ours", lambda b: put(b, ROW_A, b"c:note", b"")),
    ("HBase: 1 rows that aren't ours", lambda b: put(b, b"zz|junk", b"c:n1", count(1))),
    ("HBase: 1 rows that aren't ours", lambda b: put(b, b"00" + ROW_A[2:], b"c:n1", count(0))),
    ("0: HBase: 1 counts of a wrong version", lambda b: stamp(b, ROW_A, b"c:n1", BASE + END + 1)),
    ("0: HBase: 1 counts of a wrong version", lambda b: stamp(b, ROW_A, b"c:n1", BASE + 9)),
    ("0: HBase: 1 counts of a wrong version", lambda b: stamp(b, ROW_A, b"c:n1", 1_790_000_000_000)),
    ("0: HBase: 1 wrong certificates", lambda b: certify(b, replace(CERTIFICATE, offset=8))),
    ("0: HBase: 1 wrong certificates", lambda b: certify(b, replace(CERTIFICATE, late=ClassCount(1, 6, 9, 9)))),
    ("0: HBase: 1 wrong certificates", lambda b: certify(b, replace(CERTIFICATE, partial=True))),
    ("0: HBase: 1 missing certificates: partition 1", lambda b: b.windows.pop(WINDOW)),
    ("7000: HBase: 1 wrong certificates", lambda b: put(b, b"%015d" % 7000, b"c:w1", pack_certificate(CERTIFICATE))),
    ("0: HBase: 1 unreadable certificates", lambda b: put(b, WINDOW, b"c:w1", b"x")),
    ("0: HBase: 1 columns that aren't ours", lambda b: put(b, WINDOW, b"c:r1", struct.pack(">q", 9))),
    ("0: HBase: 1 certificates of a wrong version", lambda b: stamp(b, WINDOW, b"c:w1", BASE + END + 1)),
    ("0: HBase: 1 certificates of a wrong version", lambda b: stamp(b, WINDOW, b"c:w1", BASE + 9)),
    ("0: HBase: 1 certificates of a wrong version", lambda b: stamp(b, WINDOW, b"c:w1", 1_790_000_000_000)),
    ("HBase: 1 rows of windows that aren't ours", lambda b: put(b, b"12", b"c:w1", b"")),
    ("HBase: 1 wrong columns of the frontier", lambda b: put(b, b"frontier", b"c:c1", frontier(END - 1, 5000))),
    ("HBase: 1 wrong columns of the frontier", lambda b: put(b, b"frontier", b"c:c1", frontier(END, 4999))),
    ("HBase: 1 wrong columns of the frontier", lambda b: put(b, b"frontier", b"c:a1", struct.pack(">q", END - 1))),
    ("HBase: 1 wrong columns of the frontier", lambda b: stamp(b, b"frontier", b"c:c1", BASE + END - 1)),
    ("HBase: 1 wrong columns of the frontier", lambda b: put(b, b"frontier", b"c:c0", frontier(1, 1), 0)),
    ("HBase: 1 unreadable columns of the frontier", lambda b: put(b, b"frontier", b"c:c1", b"x")),
    ("HBase: 1 columns of the frontier that aren't ours", lambda b: put(b, b"frontier", b"c:z1", b"x")),
    ("HBase: 1 missing columns of the frontier: a1", lambda b: b.windows[b"frontier"].pop(b"c:a1")),
    ("HBase: 2 missing columns of the frontier: a1; c1", lambda b: b.windows.pop(b"frontier")),
    ("HBase: 1 wrong owner rows", lambda b: owner(b, app="other")),
    ("HBase: 1 wrong owner rows", lambda b: owner(b, topic="other")),
    ("HBase: 1 wrong owner rows", lambda b: owner(b, fingerprint="beef")),
    ("HBase: 1 wrong owner rows", lambda b: owner(b, table_id="")),
    ("HBase: 1 wrong owner rows", lambda b: owner(b, format=2)),
    ("HBase: 1 wrong owner rows", lambda b: put(b, b"owner", b"c:owner", b"{")),
    ("HBase: 1 wrong owner rows", lambda b: put(b, b"owner", b"c:more", b"")),
    ("HBase: 1 wrong owner rows", lambda b: b.windows.pop(b"owner")),
    ("HBase: 1 wrong words of the changelog", lambda b: setattr(b, "progress", None)),
    ("HBase: 1 wrong words of the changelog", lambda b: owner(b, table_id="2233")),
]


@pytest.mark.parametrize(("finding", "damage"), BREAKS)
def test_one_damaged_thing_is_found_where_it_is(
    broken: Broken, finding: str, damage: Callable[[Broken], object]
) -> None:
    damage(broken)
    first, *_ = broken.findings()
    assert first.startswith(finding)


def test_progress_that_claims_more_than_the_log_has_is_found(broken: Broken) -> None:
    broken.progress = CountsProgress(state_id="s", start=0, next_offset=END + 1, table_id="0011")
    assert len(broken.findings()) == 1


def test_progress_may_be_behind_as_it_is_committed_later(broken: Broken) -> None:
    broken.progress = CountsProgress(state_id="s", start=0, next_offset=0)
    assert broken.findings() == []


def test_a_zero_is_as_good_as_an_absent_count(broken: Broken) -> None:
    put(broken, ROW_B, b"c:l1", count(0))
    put(broken, row_of(0, b"/nobody"), b"c:n1", count(0))
    assert broken.findings() == []
    assert broken.tables.total == 6


def test_only_an_expired_window_may_have_been_dropped(broken: Broken) -> None:
    certify(broken, replace(CERTIFICATE, dropped=True))
    assert broken.findings() == []
    broken.expired = {}
    assert broken.findings() == ["0: HBase: 1 certificates dropped before their time: partition 1"]


def test_many_findings_of_a_kind_and_window_are_one(broken: Broken) -> None:
    for number in range(5):
        put(broken, row_of(0, b"/%d" % number), b"c:n1", count(1))
    (finding,) = broken.findings()
    assert finding.startswith("0: HBase: 5 wrong counts: b'/0' n1 1, wanted 0; b'/1'")
    assert finding.count(";") == 2


def test_partitions_without_records_need_no_frontier_and_may_have_an_empty_one(broken: Broken) -> None:
    put(broken, b"frontier", b"c:c0", struct.pack(">qq", -1, -1), 0)
    put(broken, b"frontier", b"c:a0", struct.pack(">q", 0), 0)
    assert broken.findings() == []
