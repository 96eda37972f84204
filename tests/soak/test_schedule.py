"""The schedule that `make test-long` plays."""

from __future__ import annotations

from itertools import islice

from domain.probe import Point
from tests.e2e.faults.stage import WAYS
from tests.soak.plays import PLAYS
from tests.soak.schedule import MOVES_PER_ACT, WEIGHTS, Fault, acts


def test_a_seed_gives_the_same_schedule_again_and_another_seed_another() -> None:
    one, again, other = (list(islice(acts(seed), 5)) for seed in (7, 7, 8))
    assert one == again
    assert one != other


def test_every_fault_and_every_point_has_its_turn_however_the_seed() -> None:
    shuffled = sum(WEIGHTS.values())
    moves = [move for act in islice(acts(9), 2 * shuffled // MOVES_PER_ACT + 1) for move in act]
    assert {move.fault for move in moves[:shuffled]} == set(Fault)
    assert {move.point for move in moves} == set(Point)


def test_every_fault_is_weighed_and_done_and_every_point_has_a_way_to_it() -> None:
    assert WEIGHTS.keys() == PLAYS.keys() == set(Fault)
    assert WAYS.keys() == set(Point)
