"""The `CellSink` contract, on a fake and on HBase: what is true at a higher offset wins, however the puts come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest

from domain import rows
from domain.certificate import Certificate, ClassCount
from domain.errors import SinkUnavailableError
from domain.rows import Kind, Row, window_prefix
from sinks.base import CellSink
from sinks.hbase.format import Frontier
from tests.cell_sinks import Counts, FakeRoom, HBaseRoom, Room

START = 1_700_000_000_000
KEYS = [b"", b"a", b"|", b"a|b", b"\x00\xff", "ünï".encode(), b"k" * 4096]


@pytest.fixture(params=["fake", "hbase"])
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    if request.param == "fake":
        yield FakeRoom()
        return
    real = HBaseRoom(request.getfixturevalue("hbase_thrift"))
    yield real
    real.close()


def cells(room: Room, counts: Counts) -> list[Row]:
    """State rows, as a checkpoint has them."""
    return [
        (window_prefix(Kind.CELL, room.table, start) + key, rows.pack_cell(on_time, late, 7))
        for (start, key), (on_time, late) in counts.items()
    ]


def one(room: Room, on_time: int, late: int = 0, key: bytes = b"a") -> list[Row]:
    return cells(room, {(START, key): (on_time, late)})


def certificates(room: Room, *found: tuple[int, Certificate]) -> list[Row]:
    return [(window_prefix(Kind.CERTIFICATE, room.table, start), rows.pack_certificate(c)) for start, c in found]


def test_counts_of_any_key_and_window_are_shown_as_put(room: Room) -> None:
    sink = room.sink(3)
    sink.claim()
    counts = {(start, key): (len(key) + 1, at) for at, start in enumerate((0, START)) for key in KEYS}
    counts[START, b"late only"] = (0, 5)
    counts[START, b"huge"] = (2**63, 2**62)
    sink.put_cells(cells(room, counts), 8)
    assert room.shown(3).cells == counts
    assert room.shown(4).cells == {}


def test_many_cells_are_put_at_once(room: Room) -> None:
    sink = room.sink()
    sink.claim()
    counts = {(START, b"key-%d" % at): (at + 1, 0) for at in range(20_000)}
    sink.put_cells(cells(room, counts), 8)
    assert room.shown().cells == counts


def test_no_rows_are_no_put(room: Room) -> None:
    sink = room.sink()
    sink.claim()
    sink.put_cells([], 8)
    sink.put_certificates([], 8)
    shown = room.shown()
    assert (shown.cells, shown.certificates, shown.frontier) == ({}, {}, None)


def test_an_older_put_never_shows_and_an_equal_one_changes_nothing(room: Room) -> None:
    sink = room.sink()
    sink.claim()
    for next_offset in permutations((3, 5, 9)):
        for at in next_offset:
            sink.put_cells(one(room, at, at, b"key-%d%d%d" % next_offset), at)
    assert set(room.shown().cells.values()) == {(9, 9)}
    assert len(room.shown().cells) == 6
    sink.put_cells(one(room, 9, 9, b"key-359"), 9)
    assert set(room.shown().cells.values()) == {(9, 9)}


def test_certificates_and_frontier_have_versions_of_their_own(room: Room) -> None:
    sink = room.sink(2)
    sink.claim()
    newer = Certificate(8, ClassCount(3, 2**64 - 1, 0, 8), ClassCount(1, 4, 7, 7), ClassCount(), partial=True)
    older = Certificate(2, ClassCount(1, 9, 2, 2))
    sink.put_certificates(certificates(room, (0, newer), (START, newer)), 9)
    sink.put_certificates(certificates(room, (0, older)), 3)
    sink.put_frontier(9, START, 20)
    sink.put_frontier(3, 1, 10)
    shown = room.shown(2)
    assert shown.certificates == {0: newer, START: newer}
    assert shown.frontier == Frontier(9, START)
    assert shown.archive_next_offset == 20
    sink.put_frontier(10, START, 15)
    assert room.shown(2).archive_next_offset == 20, "the archive's own offset decides"
    assert room.sink(2).next_offset() == 10
    assert room.sink(1).next_offset() is None


def test_a_frontier_without_stream_time_or_archive(room: Room) -> None:
    sink = room.sink()
    sink.claim()
    sink.put_frontier(4, None, None)
    shown = room.shown()
    assert (shown.frontier, shown.archive_next_offset) == (Frontier(4, None), None)


def test_the_id_stays_until_the_tables_are_emptied(room: Room) -> None:
    sink = room.sink()
    first = sink.claim()
    assert first
    assert room.sink(1).claim() == first
    sink.put_cells(one(room, 1), 2)
    assert sink.claim() == first
    room.empty()
    second = claimed_again(sink)
    assert second not in {"", first}
    assert sink.claim() == second
    assert room.shown().cells == {}


def claimed_again(sink: CellSink) -> str:
    """The tables may first be found missing: then the next claim makes them."""
    try:
        return sink.claim()
    except SinkUnavailableError:
        return sink.claim()


Step = tuple[str, int, int]  # (who, the offset it is true at, the count)

ZOMBIE: list[Step] = [("zombie", 3, 2), ("zombie", 6, 5)]
OWNER: list[Step] = [("rescan", 6, 5), ("owner", 8, 6), ("owner", 11, 9)]
STRANGER: list[Step] = [("stranger", 0, 777)]


def interleavings(*actors: Sequence[Step]) -> Iterator[list[Step]]:
    """Every order in which the steps can come, each actor's own order kept."""
    if not any(actors):
        yield []
    for at, steps in enumerate(actors):
        if steps:
            rest = [*actors[:at], steps[1:], *actors[at + 1 :]]
            yield from ([steps[0], *more] for more in interleavings(*rest))


def test_however_puts_of_owner_zombie_and_stranger_interleave_the_function_wins(hbase_thrift: str) -> None:
    room = HBaseRoom(hbase_thrift)
    owner, zombie = room.sink(), HBaseRoom(hbase_thrift)
    zombie.table, zombie.claimed = room.table, room.claimed  # a process of its own, with its own connections
    owner.claim()
    sinks = {"owner": owner, "rescan": owner, "zombie": zombie.sink()}
    stranger = room.stranger.table(f"recount_{room.table}")
    orders = list(interleavings(ZOMBIE, OWNER, STRANGER))
    assert len(orders) == 60
    for number, order in enumerate(orders):
        key = b"order-%d" % number
        for who, next_offset, count in order:
            if who == "stranger":  # a clock stamps it
                ((row, _),) = cells(room, {(START, key): (0, 0)})
                stranger.put(hbase_row(room, row), {b"c:n0": count.to_bytes(8, "big")})
            else:
                sinks[who].put_cells(one(room, count, key=key), next_offset)
    shown = room.shown().cells
    wrong = {orders[at][-1]: shown.get((START, b"order-%d" % at)) for at in range(60)}
    assert set(wrong.values()) == {(9, 0)}, wrong
    room.close()
    zombie.close()


def hbase_row(room: Room, row: bytes) -> bytes:
    from sinks.hbase.format import cell_row

    parsed = rows.parse_key(row)
    assert parsed is not None
    return cell_row(parsed.start_ms, parsed.tail)
