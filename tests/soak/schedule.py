"""The schedule: which fault when, a pure function of the seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from random import Random
from typing import TypeVar

from domain.probe import Point

MOVES_PER_ACT = 20
WAIT_S = 6.0  # on average, between two faults of an act
SESSION_S = 4.0
Card = TypeVar("Card")


class Fault(StrEnum):
    KILL = "kill"
    KILL_AT_POINT = "kill-at-point"
    PAUSE = "pause"
    PAUSE_AT_POINT = "pause-at-point"
    RESTART = "restart"  # SIGTERM
    JOIN = "join"
    LEAVE = "leave"
    FENCE = "fence"  # a stranger initialises under a partition's transactional id
    STATE_DELETED = "state-deleted"
    STATE_AGED = "state-aged"  # replaced by an older copy
    STATE_FLIPPED = "state-flipped"  # a few bits of a file
    OFFSETS_RESET = "offsets-reset"
    KAFKA_PAUSED = "kafka-paused"
    KAFKA_RESTARTED = "kafka-restarted"
    KAFKA_KILLED = "kafka-killed"
    THRIFT_PAUSED = "thrift-paused"
    THRIFT_KILLED = "thrift-killed"
    NAMENODE_PAUSED = "namenode-paused"
    NAMENODE_KILLED = "namenode-killed"
    DATANODE_PAUSED = "datanode-paused"
    DATANODE_KILLED = "datanode-killed"
    HBASE_KILLED = "hbase-killed"  # master, region server and ZooKeeper


KILLS = frozenset({Fault.KILL, Fault.KILL_AT_POINT})
PAUSES = frozenset({Fault.PAUSE, Fault.PAUSE_AT_POINT})
WEIGHTS = {
    Fault.KILL: 10,
    Fault.KILL_AT_POINT: 16,
    Fault.PAUSE: 8,
    Fault.PAUSE_AT_POINT: 10,
    Fault.RESTART: 4,
    Fault.JOIN: 4,
    Fault.LEAVE: 4,
    Fault.FENCE: 5,
    Fault.STATE_DELETED: 2,
    Fault.STATE_AGED: 4,
    Fault.STATE_FLIPPED: 3,
    Fault.OFFSETS_RESET: 2,
    Fault.KAFKA_PAUSED: 4,
    Fault.KAFKA_RESTARTED: 2,
    Fault.KAFKA_KILLED: 2,
    Fault.THRIFT_PAUSED: 3,
    Fault.THRIFT_KILLED: 3,
    Fault.NAMENODE_PAUSED: 2,
    Fault.NAMENODE_KILLED: 2,
    Fault.DATANODE_PAUSED: 2,
    Fault.DATANODE_KILLED: 2,
    Fault.HBASE_KILLED: 2,
}
# How long it lasts, in seconds; of a kill, how long the dead stay dead. One of the ranges is drawn.
BRIEF, BEYOND_SESSION = (0.0, 2.0), (SESSION_S + 1, 3 * SESSION_S)
LASTS: dict[Fault, tuple[tuple[float, float], ...]] = {
    Fault.PAUSE: ((0.3, SESSION_S - 1), BEYOND_SESSION),
    Fault.PAUSE_AT_POINT: ((0.3, SESSION_S - 1), BEYOND_SESSION, BEYOND_SESSION),
    Fault.KAFKA_PAUSED: ((1.0, 5.0), (5.0, 12.0)),
    Fault.KAFKA_RESTARTED: (BRIEF,),
    Fault.KAFKA_KILLED: (BRIEF,),
    Fault.THRIFT_PAUSED: ((3.0, 15.0),),
    Fault.THRIFT_KILLED: ((1.0, 20.0),),
    Fault.NAMENODE_PAUSED: ((3.0, 12.0),),
    Fault.NAMENODE_KILLED: ((0.0, 8.0),),
    Fault.DATANODE_PAUSED: ((3.0, 12.0),),
    Fault.DATANODE_KILLED: ((0.0, 8.0),),
    Fault.HBASE_KILLED: ((0.0, 8.0),),
}


@dataclass(frozen=True)
class Move:
    """One fault. What it meets isn't known beforehand: `which` picks a worker or partition, `dice` the rest."""

    wait_s: float  # since the move before began
    fault: Fault
    lasts_s: float
    which: int
    point: Point
    nth: float  # of the usual number of times that a point is passed before the trap springs
    held: bool  # until checkpoints have committed what was reported, where that can be
    dice: int


def acts(seed: int) -> Iterator[list[Move]]:
    """Without end; every so often all faults and points have had their turn."""
    r = Random(seed)
    faults = _dealt(r, [fault for fault, weight in WEIGHTS.items() for _ in range(weight)])
    points = _dealt(r, list(Point))
    while True:
        yield [_move(r, fault, points) for fault in islice(faults, MOVES_PER_ACT)]


def _move(r: Random, fault: Fault, points: Iterator[Point]) -> Move:
    low, high = r.choice(LASTS.get(fault, (BRIEF, BEYOND_SESSION)))
    return Move(
        wait_s=round(r.expovariate(1 / WAIT_S), 2),
        fault=fault,
        lasts_s=round(r.uniform(low, high), 2),
        which=r.randrange(1000),
        point=next(points),
        nth=round(r.uniform(0.3, 2.0), 2),
        held=r.random() < 0.5,
        dice=r.randrange(1 << 32),
    )


def _dealt(r: Random, deck: list[Card]) -> Iterator[Card]:
    """Cards of a shuffled deck, shuffled again when all were dealt."""
    while True:
        yield from r.sample(deck, len(deck))
