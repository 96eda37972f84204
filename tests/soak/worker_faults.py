"""Faults of workers: killed, paused, restarted, joined, left, fenced."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TypeVar

from aiokafka.errors import KafkaError

from domain.probe import Point
from tests import kafka
from tests.e2e.faults.stage import IN_HAND, WAYS, open_files, tear
from tests.e2e.faults.test_pauses import stopped
from tests.e2e.faults.trap import Marker, Trap
from tests.e2e.test_membership import initialise
from tests.e2e.workers import GRACE_S
from tests.soak.fleet import Member
from tests.soak.ground import Ground, happens
from tests.soak.journal import Entry
from tests.soak.schedule import Fault

REACH_S = 60.0
CATCH_S = 25.0
WAKE_S = 60.0
AGREED_S = 3.0  # both the sleeper's next heartbeat and a takeover that has just begun are over by then
FENCE_S = 15.0
FOLD_S = 2.0
ON_THE_WAY_OUT = frozenset({Point.LOGS_CLOSED, Point.LAST_CHECKPOINT_DONE})
Position = TypeVar("Position")
TORN = frozenset({Point.WHOLE_LINES_COPIED, Point.COPY_PUBLISHED})


def kill(ground: Ground, entry: Entry) -> None:
    with ground.fleet.any_of(entry.move.which) as member:
        if member is None:
            return
        entry.target = member.worker.name
        strike(ground, entry, member, member.kill)
        time.sleep(entry.move.lasts_s)
        member.start()


def pause(ground: Ground, entry: Entry) -> None:
    with ground.fleet.any_of(entry.move.which) as member:
        if member is None:
            return
        entry.target = member.worker.name

        def stop() -> bool:
            member.worker.watched = False
            if not member.worker.running:
                return False
            member.worker.signal(signal.SIGSTOP)
            return happens(lambda: stopped(member.worker), CATCH_S)

        strike(ground, entry, member, stop)
        time.sleep(entry.move.lasts_s)
        if member.worker.running:
            member.worker.signal(signal.SIGCONT)
        wake(ground, member)


def strike(ground: Ground, entry: Entry, member: Member, blow: Callable[[], bool]) -> None:
    """Once it counts. In hand: records were there before the blow that nobody had committed after it."""
    folding = happens(partial(folds, member), CATCH_S)
    partitions, ends = set(member.owned()), positions(ground, ground.scene.verifier.ends)
    entry.happened = blow()
    committed = positions(ground, ground.scene.verifier.committed)
    entry.in_hand = folding and any(
        committed[one][0] < ends[one] for one in partitions & ends.keys() & committed.keys()
    )


def folds(member: Member) -> bool:
    """Whether it folds right now."""

    def batches() -> float:
        return member.worker.metric("recount_batches_total")

    try:
        before = batches() if member.up else 0
        return happens(lambda: batches() > before, FOLD_S) and bool(member.owned())
    except (OSError, AssertionError):
        return False


def positions(ground: Ground, ask: Callable[[], dict[int, Position]]) -> dict[int, Position]:
    """Nothing while Kafka is away."""
    try:
        return {} if ground.fleet.back.get("kafka", 0.0) > time.monotonic() else ask()
    except (KafkaError, OSError, AssertionError):
        return {}


def restart(ground: Ground, entry: Entry) -> None:
    with ground.fleet.any_of(entry.move.which) as member:
        if member is None:
            return
        entry.target = member.worker.name
        entry.in_hand = happens(member.owned, CATCH_S)
        entry.happened = member.stop()
        time.sleep(entry.move.lasts_s)
        member.start()


def wake(ground: Ground, member: Member) -> None:
    """The monitor looks at it again once it and the others have agreed for a while on who counts what."""
    since = time.monotonic()

    def agreed() -> bool:
        nonlocal since
        mine = member.owned().keys()
        others: set[int] = set().union(*(one.owned() for one in ground.fleet.wanted if one is not member))
        if mine & others or len(mine | others) < ground.scene.partitions:
            since = time.monotonic()
        return time.monotonic() - since > AGREED_S

    happens(agreed, WAKE_S)
    member.worker.watched = True


# -- at a named point ------------------------------------------------------------------------------


def at_point(ground: Ground, entry: Entry) -> None:
    """Started again with a trap; it springs, or the worker is killed from outside after all."""
    move = entry.move
    with ground.fleet.any_of(move.which) as member:
        if member is None:
            return
        entry.target = member.worker.name
        partitions = set(member.owned())
        member.kill()
        if move.point in TORN:
            tear_some(ground, entry, partitions)
        number = signal.SIGKILL if move.fault is Fault.KILL_AT_POINT else signal.SIGSTOP
        member.worker.watched = number is signal.SIGKILL
        trap = trap_of(ground, entry, number)
        member.start(trap)
        marker = reach(member, trap)
        if marker is None:
            entry.notes.append("the point was not reached")
            if not member.kill() and move.point not in ON_THE_WAY_OUT:
                ground.fleet.after_its_end(member)
        else:
            entry.in_hand = marker.uncommitted or move.point not in IN_HAND
            entry.happened = stands_or_died(member, number)
        time.sleep(move.lasts_s)
        go_on(ground, member, move.point)


def reach(member: Member, trap: Trap) -> Marker | None:
    if trap.point in ON_THE_WAY_OUT:
        happens(lambda: member.owned() or not member.worker.running, REACH_S)
        time.sleep(1)  # something to close
        if member.up:
            member.worker.signal(signal.SIGTERM)
    happens(lambda: trap.sprung() or not member.worker.running, REACH_S)
    return trap.sprung()


def stands_or_died(member: Member, number: signal.Signals) -> bool:
    if number is signal.SIGKILL:
        return member.worker.wait(GRACE_S) == -signal.SIGKILL
    return happens(lambda: stopped(member.worker), CATCH_S)


def go_on(ground: Ground, member: Member, point: Point) -> None:
    if not member.worker.running:
        member.start()
        member.worker.watched = True
        return
    member.worker.signal(signal.SIGCONT)
    if point in ON_THE_WAY_OUT:
        assert member.worker.wait(GRACE_S) == 0, member.worker.log()[-3000:]
        member.start()
    wake(ground, member)


def trap_of(ground: Ground, entry: Entry, number: signal.Signals) -> Trap:
    move, way = entry.move, WAYS[entry.move.point]
    return Trap(
        move.point,
        str(ground.scene.folder / f"{entry.act}-{entry.number}.marker"),
        max(1, round(way.nth * move.nth)),
        number,
        way.checkpoints if move.held else 0,
        way.moment_s * move.nth,
    )


def tear_some(ground: Ground, entry: Entry, partitions: set[int]) -> None:
    """End files in half a line that one who just died left open: nobody else has these partitions yet."""
    if not ground.storage.acquire(timeout=GRACE_S):
        return
    try:
        fs, paths = open_files(ground.scene)
        its = [path for path in paths if int(path.split("/_open/")[1].split("/")[0]) in partitions]
        entry.notes.append(f"{tear(ground.scene, fs, its)} files torn")
    except OSError as err:
        entry.notes.append(f"no more files torn: {err!r}")
    finally:
        ground.storage.release()


# -- membership ------------------------------------------------------------------------------------


def join(ground: Ground, entry: Entry) -> None:
    with ground.fleet.any_of(entry.move.which, wanted=False) as member:
        if member is None:
            entry.notes.append("everybody is there")
            return
        entry.target = member.worker.name
        member.wanted = True
        member.start()
        entry.happened = happens(member.owned, REACH_S)


def leave(ground: Ground, entry: Entry) -> None:
    with ground.fleet.any_of(entry.move.which) as member:
        if member is None:
            return
        entry.in_hand = happens(member.owned, CATCH_S)
        if not ground.fleet.spare(member):
            entry.notes.append("nobody to spare")
            return
        entry.target = member.worker.name
        entry.happened = member.stop()


def fence(ground: Ground, entry: Entry) -> None:
    partition = Random(entry.move.dice).randrange(ground.scene.partitions)
    entry.target = f"partition {partition}"
    entry.in_hand = happens(lambda: any(partition in one.owned() for one in ground.fleet.wanted), CATCH_S)

    async def stranger() -> None:
        async with asyncio.timeout(FENCE_S):
            await initialise(ground.scene, partition)

    try:
        kafka.run_apart(stranger())
        entry.happened = True
    except (KafkaError, OSError, TimeoutError) as err:
        entry.notes.append(repr(err))
