"""The verdict on HBase sees every kind of disagreement: each test breaks one thing of tables in which all agrees."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from app.demo.hbase import Tables
from app.demo.verdict import Truth
from app.demo.verdict_hbase import hbase_findings
from domain.rows import pack_certificate
from sinks.hbase.claim import Claimant
from sinks.hbase.format import Frontier, cell_row, pack_frontier, pack_offset, version, window_row
from tests.spec import oracle

TOPIC = {"name": "clicks", "event_time": {"field": "ts", "format": "epoch_ms"}, "max_past": "1h", "max_future": "1h"}
TABLE = {"name": "views", "topic": "clicks", "key": ["page"], "window": "1s", "grace": "1s", "retention": "3s"}
TIMES = (100, 900, 2500, 300, 1700, 6000, 200, 1100, None, 6500)  # on time, late, expired and one malformed
END = len(TIMES)
CLAIMANT = Claimant("views", "demo", "clicks", "fingerprint")
OWNER = {"app": "demo", "topic": "clicks", "fingerprint": "fingerprint", "table_id": "id", "format": 1}

Columns = dict[bytes, tuple[bytes, int]]


def truth_of(partition: int) -> Truth:
    values = [b"no" if at is None else json.dumps({"ts": at, "page": f"/{at % 3}"}).encode() for at in TIMES]
    log = [
        {"offset": offset, "timestamp": 7000 + partition, "key": None, "value": value}
        for offset, value in enumerate(values)
    ]
    return Truth.of(json.loads(json.dumps(oracle.fold_partition(log, TOPIC, TABLE))))


@dataclass
class World:
    truths: dict[int, Truth]
    ends: dict[int, int]
    counts: dict[bytes, Columns]
    windows: dict[bytes, Columns]

    def findings(self) -> list[str]:
        found = hbase_findings(self.truths, self.ends, Tables(self.counts, self.windows), CLAIMANT)
        return [one.what for one in found]


@pytest.fixture
def world() -> World:
    """Two partitions, put as their workers put them."""
    made = World({p: truth_of(p) for p in range(2)}, dict.fromkeys(range(2), END), {}, {})
    frontier = made.windows[b"frontier"] = {}
    for partition, truth in made.truths.items():
        for (start, key), cell in truth.cells.items():
            columns = made.counts.setdefault(cell_row(start, key), {})
            for letter, count in (("n", cell.on_time), ("l", cell.late)):
                if count:
                    columns[f"c:{letter}{partition}".encode()] = (count.to_bytes(8, "big"), version(END))
        for start, one in truth.certificates.items():
            value = (pack_certificate(one), version(one.offset + 1))
            made.windows.setdefault(window_row(start), {})[f"c:w{partition}".encode()] = value
        standing = pack_frontier(Frontier(END, truth.stream_time))
        frontier[f"c:c{partition}".encode()] = (standing, version(END))
        frontier[f"c:a{partition}".encode()] = (pack_offset(END), version(END))
    made.windows[b"owner"] = {b"c:owner": (json.dumps(OWNER).encode(), 1)}
    return made


def test_tables_in_which_everything_agrees_say_so(world: World) -> None:
    assert world.findings() == []
    tables = Tables(world.counts, world.windows)
    wanted = [cell.on_time + cell.late for truth in world.truths.values() for cell in truth.cells.values()]
    assert tables.total == sum(wanted) == 14
    assert sum(tables.in_window(start) for start in {start for start, _ in world.truths[0].cells}) == 14
    assert tables.in_window(77) == 0


def first(columns: dict[bytes, Columns]) -> Columns:
    return next(iter(columns.values()))


def change(columns: Columns, name: bytes, value: bytes | None = None, at: int | None = None) -> None:
    old_value, old_at = columns[name]
    columns[name] = (old_value if value is None else value, old_at if at is None else at)


def count(world: World) -> tuple[Columns, bytes]:
    """Some cell's columns, and one of them."""
    columns = first(world.counts)
    return columns, next(iter(columns))


Damage = Callable[[World], None]


def certificate(world: World) -> Columns:
    return next(columns for row, columns in world.windows.items() if row.isdigit())


DAMAGES: dict[str, Damage] = {
    "wrong counts": lambda w: change(*count(w), (9).to_bytes(8, "big")),
    "missing counts": lambda w: w.counts.clear(),
    "unreadable counts": lambda w: change(*count(w), b"?"),
    "clock": lambda w: change(*count(w), at=1_700_000_000_000),
    "log that ends": lambda w: change(*count(w), at=version(END + 1)),
    "though it counts": lambda w: change(*count(w), at=version(0)),
    "rows that aren't ours": lambda w: w.counts.update({b"foreign": {b"c:n0": (bytes(8), version(1))}}),
    "columns that aren't ours": lambda w: first(w.counts).update({b"c:e0": (bytes(8), version(1))}),
    "wrong certificates": lambda w: change(certificate(w), b"c:w0", pack_certificate(w.truths[0].certificates[6000])),
    "unreadable certificates": lambda w: change(certificate(w), b"c:w0", b"?"),
    "missing certificates": lambda w: w.windows.pop(window_row(6000)),  # type: ignore[dict-item]
    "certificates of a wrong version": lambda w: change(certificate(w), b"c:w0", at=version(END + 1)),
    "wrong columns of the frontier": lambda w: change(w.windows[b"frontier"], b"c:c0", pack_frontier(Frontier(3, 1))),
    "unreadable columns of the frontier": lambda w: change(w.windows[b"frontier"], b"c:a1", b"?"),
    "missing columns of the frontier": lambda w: w.windows[b"frontier"].clear(),
    "wrong owner rows": lambda w: change(w.windows[b"owner"], b"c:owner", json.dumps(OWNER | {"app": "x"}).encode()),
    "rows of windows that aren't ours": lambda w: w.windows.update({b"12": {}}),
}


@pytest.mark.parametrize("said", DAMAGES)
def test_damaged_tables_are_found(world: World, said: str) -> None:
    DAMAGES[said](world)
    found = world.findings()
    assert any(said in one for one in found), found


def test_a_partition_that_the_topic_does_not_have_is_found(world: World) -> None:
    first(world.counts)[b"c:n7"] = (bytes(8), version(1))
    world.windows[b"frontier"][b"c:c7"] = (pack_frontier(Frontier(1, 1)), version(1))
    assert len(world.findings()) == 2
