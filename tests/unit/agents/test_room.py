"""One limit for a worker, however many partitions it has."""

from __future__ import annotations

from agents.room import Room


def test_each_holder_has_an_even_share_and_who_leaves_gives_it_back() -> None:
    room = Room(100)
    assert room.share == 100
    holders = [object(), object(), object()]
    for one in (*holders, holders[0]):
        room.enter(one)
    assert room.share == 33
    room.leave(holders[1])
    room.leave(holders[1])
    assert room.share == 50
