"""Brokers that die, stop or hand over what they lead, under load."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest

from app.cli_errors import ExitCode
from domain.probe import Point
from domain.spec import changelog_topic
from tables.changelog import transactional_id
from tests.e2e.commands import recount
from tests.e2e.driver import Driver
from tests.e2e.faults.cluster import BROKERS, Cluster
from tests.e2e.faults.conftest import MakeReplicated
from tests.e2e.faults.stage import MODULE, Stage, Step
from tests.e2e.faults.test_crash_points import RATE, check
from tests.e2e.workers import ROOT, Worker
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

OUTAGE_S = 15.0


def test_leading_brokers_killed_one_after_another_lose_and_repeat_nothing(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(BROKERS)
    log = changelog_topic(scene.app, scene.topic)
    first, _ = scene.start("w1", "w2")
    with scene.load(seed=71, rate=RATE) as driver:
        for node in (1, 2, 3):
            scene.wait_counts_on(first, driver)
            cluster.wait_in_sync()
            assert node in cluster.leaders(scene.topic).values()
            assert node in cluster.leaders(log).values()
            with cluster.without(node):
                scene.wait_counts_on(first, driver)
        scene.wait_counts_on(first, driver)
    check(scene, first, hbase=False)


def test_leaders_that_move_while_all_brokers_live_lose_and_repeat_nothing(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(BROKERS)
    log = changelog_topic(scene.app, scene.topic)
    (worker,) = scene.start("w1")
    with scene.load(seed=72, rate=RATE) as driver:
        scene.wait_counts_on(worker, driver)
        # Other leaders; then one copy less, and made anew.
        moves = [(log, [2, 3, 1]), (scene.topic, [3, 1, 2]), (log, [3, 1]), (scene.topic, [2, 1])]
        for topic, nodes in (*moves, (log, [1, 3, 2]), (scene.topic, [3, 2, 1])):
            cluster.place(topic, nodes)
            scene.wait_counts_on(worker, driver)
    check(scene, worker, hbase=False)


def test_a_broker_stopped_until_others_lead_goes_on_later(replicated_scene: MakeReplicated, cluster: Cluster) -> None:
    scene = replicated_scene(BROKERS)
    topics = (scene.topic, changelog_topic(scene.app, scene.topic))
    first, _ = scene.start("w1", "w2")
    with scene.load(seed=73, rate=RATE) as driver:
        for node in (1, 2, 3):
            cluster.wait_in_sync()
            scene.wait_counts_on(first, driver)
            with cluster.paused(node):
                cluster.wait_leads_nothing(node, topics)
                scene.wait_counts_on(first, driver)
        scene.wait_counts_on(first, driver)
    check(scene, first, hbase=False)


def test_coordinators_that_die_in_mid_transaction_change_nothing(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(1)
    victim = scene.worker("victim", MODULE)

    def of_transactions() -> int:
        return cluster.transaction_coordinator(transactional_id(scene.app, scene.topic, 0))

    def of_group() -> int:
        return cluster.group_coordinator(scene.app)

    plan = (
        (Point.ROWS_SENT, of_transactions),
        (Point.ROWS_ACKED, of_transactions),
        (Point.COMMIT_BEGUN, of_transactions),
        (Point.ROWS_ACKED, of_group),
    )
    with scene.load(seed=74, rate=RATE) as driver:
        stage = Stage(scene, driver, victim)
        for point, coordinator in plan:
            node = coordinator()
            stage.reach(Step(point), signal.SIGSTOP)
            with cluster.without(node):
                victim.signal(signal.SIGCONT)
                wait_for("another to coordinate", partial(another_than, node, coordinator))
                scene.wait_counts_on(victim, driver)
            victim.terminate()
        victim.start()
        scene.wait_counts_on(victim, driver)
    check(scene, victim, hbase=False)


def another_than(node: int, coordinator: Callable[[], int]) -> bool:
    return coordinator() != node


def test_two_brokers_of_three_dead_stop_the_counting_and_no_more(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(2)
    first, _ = scene.start("w1", "w2")
    with scene.load(seed=76, rate=RATE) as driver:
        for nodes in ((1, 2), (2, 3)):
            scene.wait_counts_on(first, driver)
            with cluster.without(*nodes):
                wait_stands_still(driver)
        scene.wait_counts_on(first, driver)
    check(scene, first, hbase=False)


def wait_stands_still(driver: Driver) -> None:
    """Until no input was taken for longer than sessions and commits wait."""
    last, since = driver.total, time.monotonic()

    def still() -> bool:
        nonlocal last, since
        if driver.total != last:
            last, since = driver.total, time.monotonic()
        return time.monotonic() - since > OUTAGE_S

    wait_for(f"{OUTAGE_S:g} s without input", still, 5 * OUTAGE_S)


def held_back(worker: Worker, ends: dict[int, int]) -> bool:
    now = worker.committed()
    return now[0] == ends[0] and now[1] > ends[1]


def test_an_open_transaction_of_a_dead_producer_is_waited_for(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(2)
    (worker,) = scene.start("w1")
    with scene.load(seed=75, rate=RATE) as driver:
        scene.wait_counts_on(worker, driver)
        command = [sys.executable, "-m", "tests.e2e.faults.dying_sender", scene.bootstrap, scene.topic, "0", "10"]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        ends = scene.verifier.ends()
        wait_for("partition 0 to be counted up to it, and 1 further", partial(held_back, worker, ends))
        assert scene.verifier.ends()[0] == ends[0], "the transaction isn't open any more"
        scene.wait_counts_on(worker, driver)
    check(scene, worker, hbase=False)


def test_topics_are_made_without_a_broker_and_check_tells_of_it(
    replicated_scene: MakeReplicated, cluster: Cluster
) -> None:
    scene = replicated_scene(2)
    with cluster.without(3):
        cluster.wait_leads_nothing(3, [scene.topic])
        code, said = recount(scene, "check")
        assert code == ExitCode.CONFIG
        assert "3 copies don't fit on 2 brokers; start the brokers that are missing" in said
        (worker,) = scene.start("w1")
        code, said = recount(scene, "check")
        assert code == ExitCode.OK, said
        for name in (f"topic {scene.topic}", f"changelog {changelog_topic(scene.app, scene.topic)}"):
            assert f"{name}: a partition has 2 of 3 copies in sync; are all brokers up?" in said
        with scene.load(seed=77, rate=RATE) as driver:
            scene.wait_counts_on(worker, driver)
    code, said = recount(scene, "check")
    assert code == ExitCode.OK, said
    assert "in sync" not in said
    check(scene, worker, hbase=False)
