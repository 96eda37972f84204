"""HBase loses servers under load, for half a minute and longer; every store is checked afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from domain import rows
from domain.certificate import Certificate
from domain.probe import Point
from domain.progress import decode_counts, decode_state
from domain.rows import Kind, Role, parse_key
from lab import Hbase, Lab
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.stage import MODULE, Stage, Step
from tests.e2e.faults.test_crash_points import check
from tests.e2e.faults.test_pauses import stopped
from tests.e2e.scene import Scene
from tests.e2e.test_hbase import progress
from tests.waiting import pass_time, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

OUTAGE_S = 30.0
RATE = 800


@pytest.fixture(scope="module")
def own_hbase() -> Iterator[Hbase]:
    """Not the session's: master, ZooKeeper and two region servers apart, to be killed one by one."""
    with Lab() as lab:
        yield lab.hbase(region_servers=2)


@pytest.fixture
def hbase(own_hbase: Hbase) -> Iterator[Hbase]:
    yield own_hbase
    mend(own_hbase)


@pytest.fixture
def hbase_thrift(hbase: Hbase) -> str:
    return hbase.address


def mend(hbase: Hbase) -> None:
    """All servers run and serve, whatever state they are in."""
    for server in hbase.servers:
        server.resume() if server.running else server.start(wait=False)
    for server in hbase.servers:
        server.wait_ready()


# -- servers lost ----------------------------------------------------------------------------------


def kill_a_region_server(hbase: Hbase) -> Callable[[], None]:
    one = hbase.region_servers[0]
    one.kill()
    return one.start


def pause_a_region_server(hbase: Hbase) -> Callable[[], None]:
    one = hbase.region_servers[1]
    one.pause()

    def wake() -> None:
        one.resume()
        wait_for("the zombie to hear that it is dead", lambda: not one.running, 60)
        one.start()

    return wake


def kill_all_region_servers(hbase: Hbase) -> Callable[[], None]:
    for one in hbase.region_servers:
        one.kill()
    return lambda: mend(hbase)


def kill_all_but_thrift(hbase: Hbase) -> Callable[[], None]:
    for one in hbase.servers:
        if one is not hbase.thrift:
            one.kill()
    return lambda: mend(hbase)


@dataclass(frozen=True)
class Loss:
    begin: Callable[[Hbase], Callable[[], None]]
    some_left: bool  # the rest of HBase takes over before the lost ones are back


LOSSES = {
    "a region server killed": Loss(kill_a_region_server, some_left=True),
    "a region server paused past its session": Loss(pause_a_region_server, some_left=True),
    "all region servers killed": Loss(kill_all_region_servers, some_left=False),
    "master, region servers and ZooKeeper killed": Loss(kill_all_but_thrift, some_left=False),
}


@pytest.mark.parametrize("name", LOSSES)
def test_counting_goes_on_without_servers_of_hbase_and_every_count_gets_there(
    make_scene: MakeScene, hbase: Hbase, name: str
) -> None:
    loss = LOSSES[name]
    scene = make_scene(hbase=True)
    (worker,) = scene.start("w1")
    with scene.load(seed=len(name), rate=RATE) as driver:
        wait_for("counts in HBase", lambda: progress(worker)[1] > 3_000, 90)
        errors_before = worker.metric("recount_hbase_errors_total")
        end_it = loss.begin(hbase)
        began, before = time.monotonic(), progress(worker)
        pass_time(f"{OUTAGE_S:g} s without it", OUTAGE_S)
        counted, in_hbase = progress(worker)
        assert counted > before[0] + 200 * OUTAGE_S, "it went on all the time"
        assert worker.metric("recount_paused") == 0
        assert worker.metric("recount_hbase_errors_total") > errors_before, "nothing was felt of it"
        if loss.some_left:
            at_loss = before[0]
            wait_for("the rest of HBase to take over", lambda: progress(worker)[1] > at_loss, 90)
        else:
            assert counted - in_hbase > 200 * OUTAGE_S, "puts went on without a region server"
        lag = counted - in_hbase
        end_it()
        back_at, counted = time.monotonic(), progress(worker)[0]
        wait_for("HBase to catch up", lambda: progress(worker)[1] > counted, 120)
        took_s, caught_up_s = back_at - began, time.monotonic() - back_at
        print(f"{name}: {took_s:.0f} s, {driver.total} records, lag {lag}, caught up in {caught_up_s:.0f} s")
    check(scene, worker, hbase=True)


# -- in the middle of puts -------------------------------------------------------------------------

PUTS = (Point.COUNTS_TAKEN, Point.CELLS_PUT, Point.CERTIFICATES_PUT, Point.EVENTS_PARTLY_PUT)


def test_thrift_killed_between_the_puts_of_a_checkpoint_leaves_nothing_out(make_scene: MakeScene, hbase: Hbase) -> None:
    scene = make_scene(hbase=True, partitions=2)
    with scene.load(seed=81, rate=RATE) as driver:
        stage = Stage(scene, driver, scene.worker("victim", MODULE))
        for point in PUTS:
            lose_thrift_at(stage, hbase, point)
            scene.stop()
        stage.victim.start()
        stage.victim.wait_ready()
    check(scene, stage.victim, hbase=True)


def lose_thrift_at(stage: Stage, hbase: Hbase, point: Point) -> None:
    """The worker holds still at the point until Thrift is dead, and puts the rest to nobody."""
    victim = stage.victim
    stage.reach(Step(point), signal.SIGSTOP)
    wait_for("it to be stopped", lambda: stopped(victim))
    hbase.thrift.kill()
    victim.signal(signal.SIGCONT)
    victim.wait_ready()
    wait_for(f"puts to fail after {point}", lambda: victim.metric("recount_hbase_errors_total") > 2, 60)
    hbase.thrift.start()
    counted = progress(victim)[0]
    wait_for("HBase to catch up", lambda: progress(victim)[1] >= counted, 90)


KILLS = 8


def test_thrift_killed_again_and_again_in_the_middle_of_batches(make_scene: MakeScene, hbase: Hbase) -> None:
    scene = make_scene(hbase=True)
    scene.set("sinks.hbase", interval="100ms")
    (worker,) = scene.start("w1")
    r = Random(82)
    with scene.load(seed=82, rate=RATE):
        for number in range(KILLS):
            reached = progress(worker)[1] + r.randint(300, 2000)
            wait_for("puts to flow", lambda reached=reached: progress(worker)[1] > reached, 90)  # type: ignore[misc]
            if number % 2:  # what is on its way arrives, and isn't answered
                hbase.thrift.pause()
                pass_time("requests to be on their way", 0.3)
            hbase.thrift.kill()
            hbase.thrift.start()
    cut_off = [reason for reason in worker.retried() if "connect" not in reason.lower()]
    print(f"{KILLS} kills, {len(cut_off)} requests cut off: {sorted(set(cut_off))}")
    assert len(cut_off) >= KILLS // 2, "the kills hit requests under way"
    check(scene, worker, hbase=True)


# -- longer than the retention ---------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A window of one partition and table, as committed."""

    start_ms: int
    certificate: Certificate
    cells: int
    expired: bool
    in_hbase: bool  # counts progress is past its last event


def kept(scene: Scene) -> list[Kept]:
    """All windows with events that were counted."""
    found = []
    for state in scene.verifier.changelog(settled=False).values():
        keys = {key: parsed for key in state if (parsed := parse_key(key)) is not None}
        for table in scene.tables:
            stream_time = decode_state(state[rows.progress_key(Role.STATE, table)]).stream_time
            put = decode_counts(state[rows.progress_key(Role.COUNTS, table)]).next_offset
            cells = [one.start_ms for one in keys.values() if (one.kind, one.table) == (Kind.CELL, table)]
            mine = {k: one for k, one in keys.items() if (one.kind, one.table) == (Kind.CERTIFICATE, table)}
            certificates = {one.start_ms: rows.unpack_certificate(state[k]) for k, one in mine.items()}
            gone = scene.verifier.expired(table, {"certificates": certificates, "stream_time": stream_time or 0})
            for start, one in certificates.items():
                last = max(one.on_time.last, one.late.last)
                if last >= 0:
                    found.append(Kept(start, one, cells.count(start), start in gone, last < put))
    return found


def test_counts_outlive_their_retention_in_the_state_until_hbase_has_them(make_scene: MakeScene, hbase: Hbase) -> None:
    scene = make_scene(hbase=True, partitions=2)
    (worker,) = scene.start("w1")
    with scene.load(seed=83, rate=1500) as driver:
        # Windows leave the state as they should.
        wait_for("a window to leave", lambda: any(one.certificate.dropped for one in kept(scene)), 120)
        hbase.thrift.kill()
        before = sum(one.cells for one in kept(scene))

        def waiting() -> list[Kept]:
            return [one for one in kept(scene) if one.expired and not one.in_hbase]

        pass_time(f"{OUTAGE_S:g} s without Thrift", OUTAGE_S)
        wait_for("windows to expire that HBase lacks", lambda: len(waiting()) > 20, 60)
        found = kept(scene)
        overdue = [one for one in found if one.expired and not one.in_hbase]
        assert all(one.cells and not one.certificate.dropped for one in overdue)
        held = sum(one.cells for one in found)
        assert held > 1.5 * before, "the state grows meanwhile"
        assert worker.metric("recount_paused") == 0
        hbase.thrift.start()
        print(f"{driver.total} records, cells {before} -> {held}, {len(overdue)} windows overdue")
    expected = scene.verifier.check_live(worker)
    scene.verifier.wait_in_hbase(worker)
    wait_for("all that is due to leave", lambda: not any(one.expired and one.cells for one in kept(scene)), 60)
    assert sum(one.cells for one in kept(scene)) < held / 2
    scene.verifier.check_hbase(expected)
    assert scene.verifier.check_past(expected, worker) > 10
    scene.stop()
    scene.verifier.check_stopped(expected)
