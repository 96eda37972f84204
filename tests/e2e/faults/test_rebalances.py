"""Workers that come and go while others restore, sleep or hang: whoever owns a partition, it is counted once."""

from __future__ import annotations

import signal
from random import Random

import pytest

from domain.probe import Point
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import Driver
from tests.e2e.faults.sharing import wait_shared
from tests.e2e.faults.stage import MODULE, REACH_S
from tests.e2e.faults.test_pauses import stopped
from tests.e2e.faults.trap import Marker, Trap
from tests.e2e.forgetful_app import PAUSE_S
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.test_membership import failures
from tests.e2e.workers import Worker, get
from tests.waiting import pass_time, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

RATE = 1000
REBALANCING = "because it is rebalancing"
FORGETFUL = "tests.e2e.faults.forgetful_worker"


def sprung(worker: Worker, trap: Trap) -> Marker:
    def marker() -> Marker | None:
        found = trap.sprung()
        assert found or worker.running, f"it ended before {trap.point}:\n{worker.log()[-3000:]}"
        return found

    return wait_for(f"{worker.name} to come to {trap.point}", marker, REACH_S)


def hold_in_restore(scene: Scene, worker: Worker, turn: int) -> Trap:
    """Start it; returns when it stands still between two chunks of a restore."""
    marker = scene.folder / f"{worker.name}-{turn}.marker"
    trap = Trap(Point.ROWS_PARTLY_RESTORED, str(marker), held=True)
    worker.start(trap.argument())
    sprung(worker, trap)
    return trap


def wait_rebalancing(worker: Worker, told: int) -> None:
    """Until the group starts another rebalance; its heartbeats go on while it is held."""
    wait_for("the group to rebalance", lambda: worker.log().count(REBALANCING) > told, REACH_S)
    assert worker.running


def end(worker: Worker, number: signal.Signals) -> None:
    if number is signal.SIGKILL:
        worker.kill()
    else:
        worker.terminate()


def check(scene: Scene, workers: list[Worker], *, told: bool = True) -> None:
    """Everything there is, once the driver has stopped, asked from each; ends the workers. `told`: so are lag tools."""
    expected = scene.verifier.check_live(workers[0])
    for other in workers[1:]:
        scene.verifier.check_api(expected, other)
    scene.stop()
    scene.verifier.check_archive(expected)
    if told:
        scene.verifier.check_group_offsets()


def storm(scene: Scene, driver: Driver, running: list[Worker], turn: int, r: Random) -> list[Worker]:
    """1, 2, 3, 1 workers: one joins, another joins while the first restores, two of the three leave at once."""
    joining = [worker for worker in scene.workers if worker not in running]
    r.shuffle(joining)
    trap = hold_in_restore(scene, joining[0], turn)
    told = joining[0].log().count(REBALANCING)
    joining[1].start()
    wait_rebalancing(joining[0], told)
    trap.release()
    wait_shared(scene.workers, scene.partitions)
    driver.wait_sent(driver.total + RATE)
    leaving = r.sample(scene.workers, 2)
    sent = driver.total
    for worker, number in zip(leaving, (signal.SIGKILL, r.choice((signal.SIGKILL, signal.SIGTERM))), strict=True):
        end(worker, number)
    left = [worker for worker in scene.workers if worker not in leaving]
    wait_shared(left, scene.partitions)
    assert driver.total > sent
    return left


@pytest.mark.parametrize("seed", [51, 52])
def test_storms_of_workers_that_come_and_go_count_every_record_once(make_scene: MakeScene, seed: int) -> None:
    scene = make_scene()
    for name in ("w1", "w2", "w3"):
        scene.worker(name, MODULE)
    running = [scene.workers[0]]
    running[0].start()
    running[0].wait_ready()
    r = Random(seed)
    with scene.load(seed=seed, rate=RATE) as driver:
        for turn in range(4):
            driver.wait_sent(driver.total + 2 * RATE)
            running = storm(scene, driver, running, turn, r)
    check(scene, running)


def test_workers_without_a_partition_answer_and_take_over_when_the_owners_die(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    workers = scene.start("w1", "w2", "w3", "w4", "w5")
    with scene.load(seed=53, rate=RATE) as driver:
        for _ in range(2):
            shares = wait_shared(workers, 2)
            owners = [worker for worker, share in zip(workers, shares, strict=True) if share]
            idle = [worker for worker in workers if worker not in owners]
            assert (len(owners), len(idle)) == (2, 3)
            driver.wait_sent(driver.total + RATE)
            for worker in idle:
                assert get(worker.url, "/readyz")["status"] == "ready"
                assert get(worker.url, "/healthz")
                tallies = worker.get("/api/v1/tallies")["tables"]
                assert all(one["complete"] and len(one["partitions"]) == 2 for one in tallies)
            sent = driver.total
            for worker in owners:
                worker.kill()
            shares = wait_shared(idle, 2)
            assert driver.total > sent
            for worker in owners:
                worker.start()
                worker.wait_ready()
    check(scene, workers)


def test_a_worker_killed_during_anothers_restore_leaves_nothing_half_taken(make_scene: MakeScene) -> None:
    scene = make_scene()
    (first,) = scene.start("w1")
    held, third = scene.worker("w2", MODULE), scene.worker("w3")
    with scene.load(seed=54, rate=RATE) as driver:
        driver.wait_sent(3 * RATE)
        trap = hold_in_restore(scene, held, 0)
        told = held.log().count(REBALANCING)
        assert owned(first), "nothing to lose"
        first.kill()
        third.start()
        wait_rebalancing(held, told)
        trap.release()
        wait_shared([held, third], scene.partitions)
        driver.wait_sent(driver.total + RATE)
        first.start()
        wait_shared([first, held, third], scene.partitions)
    check(scene, [held, first, third])


@pytest.mark.parametrize("hears", ["of the group at once", "late"])
def test_a_sleeper_that_initialises_after_its_session_takes_nothing_from_the_new_owner(
    make_scene: MakeScene, hears: str
) -> None:
    scene = make_scene(partitions=2)
    sleeper = scene.worker("w1", FORGETFUL if hears == "late" else MODULE)
    trap = Trap(Point.PARTITION_ASSIGNED, str(scene.folder / "sleeper.marker"), nth=3, signal=signal.SIGSTOP)
    sleeper.start(trap.argument())
    sleeper.wait_ready()
    with scene.load(seed=55, rate=RATE) as driver:
        wait_for("the first records to be committed", lambda: sum(owned(sleeper).values()) > RATE, REACH_S)
        other = scene.worker("w2")
        other.start()
        sprung(sleeper, trap)
        wait_for("the sleeper to be stopped", lambda: stopped(sleeper))
        shares = wait_shared([other], 2)
        before, sent = shares[0], driver.total
        wait_for("the other to commit", lambda: all(owned(other).get(p, 0) > at for p, at in before.items()), REACH_S)
        assert failures(other) == 0
        pass_time("a pause that makes it forgetful", PAUSE_S)
        assert stopped(sleeper)
        sleeper.watched = False  # until it hears from the group it may show what it knew before
        sleeper.signal(signal.SIGCONT)
        if hears == "late":
            wait_for("the sleeper's own commit to be fenced", lambda: failures(sleeper), REACH_S)
            assert failures(other) == 1, "the sleeper fenced the one partition it was given, once"
        wait_shared([sleeper, other], 2)
        sleeper.watched = True
        fences = (failures(sleeper), failures(other))
        assert max(fences) <= 1, fences
        driver.wait_sent(driver.total + 3 * RATE)  # some checkpoints
        assert (failures(sleeper), failures(other)) == fences, "they go on fencing each other"
        assert driver.total > sent
    check(scene, [other, sleeper], told=hears != "late")


@pytest.mark.parametrize("hangs", ["request", "answer"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_commit_that_hangs_over_the_revoke_budget_is_dropped_not_guessed(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, hangs: str, leaves: bool
) -> None:
    scene = make_scene()
    text = scene.config.read_text()
    scene.config.write_text(text.replace("[checkpoint]\n", '[checkpoint]\nrevoke_budget = "1s"\n'))
    file = scene.folder / "commits.hang"
    monkeypatch.setenv("HANG", str(file))
    monkeypatch.setenv("HANGS", hangs)
    slow = scene.worker("w1", "tests.e2e.hanging_app")
    other = scene.worker("w2")
    slow.start()
    slow.wait_ready()
    with scene.load(seed=56, rate=RATE) as driver:
        wait_for("the first records to be committed", lambda: sum(owned(slow).values()) > RATE, REACH_S)
        file.touch()
        wait_for("a commit to hang", file.with_suffix(".held").exists)
        if leaves:
            slow.terminate()  # in the time it promises
        other.start()
        dropped = "no last checkpoint: the next owner folds it again"

        def over() -> bool:
            return any("TimeoutError" in entry["reason"] for entry in slow.entries(dropped))

        wait_for("the revoke to be over its budget", over, REACH_S)
        file.unlink()
        if leaves:
            wait_shared([other], scene.partitions)
            slow.start()
        wait_shared([slow, other], scene.partitions)
        driver.wait_sent(driver.total + 2 * RATE)
    check(scene, [other, slow])
