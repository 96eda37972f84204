"""Who may count a partition: fences from outside, pauses, restarts, names given twice, new partitions."""

from __future__ import annotations

import signal

import pytest

from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

NOT_OURS = "not ours to initialise: waiting for the rebalance"


def counting(worker: Worker) -> list[str]:
    """Partitions it took over, in order, since its last start."""
    return [entry["partition"] for entry in worker.entries("counting")]


def wait_counting(worker: Worker, count: int) -> None:
    wait_for(f"{worker.name} to have taken over {count} times", lambda: len(counting(worker)) >= count)


def keep_url(worker: Worker) -> None:
    """Serve at the same address after a restart."""
    worker.bind = worker.url.removeprefix("http://")


def wait_owned(worker: Worker, count: int, deadline_s: float = 60.0) -> None:
    wait_for(f"{worker.name} to own {count} partitions", lambda: len(owned(worker)) == count, deadline_s)


def failures(worker: Worker) -> float:
    return worker.metric("recount_fenced_total") + worker.metric("recount_commit_failures_total")


async def initialise(scene: Scene, partition: int) -> None:
    """As a stranger who fences a partition's owner and then writes nothing."""
    async with kafka.producer(scene.bootstrap, transactional_id=f"{scene.app}.{scene.topic}.{partition}"):
        pass


def test_an_owner_fenced_from_outside_asks_the_group_and_counts_on(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    (worker,) = scene.start("w1")
    with scene.load(seed=31) as driver:
        for times in (1, 2, 3):
            driver.wait_sent(driver.total + 3_000)
            for partition in range(2):
                kafka.run_apart(initialise(scene, partition))
            wait_counting(worker, 2 + 2 * times)
        driver.wait_sent(driver.total + 3_000)
    expected = scene.verifier.check_live(worker)
    assert failures(worker) >= 6
    assert len(worker.entries("worker up")) == 1, "no restart"
    scene.stop()
    scene.verifier.check_stopped(expected)


def test_a_worker_that_wakes_late_does_not_fence_the_new_owner(make_scene: MakeScene) -> None:
    scene = make_scene()
    zombie = scene.worker("w1", "tests.e2e.forgetful_app")
    zombie.start()
    zombie.wait_ready()
    (other,) = scene.start("w2")
    with scene.load(seed=32) as driver:
        wait_owned(zombie, 2)
        wait_owned(other, 2)
        driver.wait_sent(driver.total + 4_000)
        zombie.signal(signal.SIGSTOP)
        try:
            wait_owned(other, scene.partitions)
            driver.wait_sent(driver.total + 4_000)
        finally:
            zombie.signal(signal.SIGCONT)
        wait_for("the zombie to ask", lambda: zombie.entries(NOT_OURS), 60)
        driver.wait_sent(driver.total + 4_000)  # some checkpoints
        assert failures(other) == 0, "the zombie fenced the owner"
        wait_owned(zombie, 2)
        wait_owned(other, 2)
        driver.wait_sent(driver.total + 4_000)
    expected = scene.verifier.check_live(other)
    assert failures(zombie) > 0
    scene.stop()
    scene.verifier.check_archive(expected)  # it tells lag tools nothing


def test_a_rolling_restart_moves_nothing(make_scene: MakeScene) -> None:
    scene = make_scene()
    scene.config.write_text(scene.config.read_text().replace('session_timeout = "4s"', 'session_timeout = "30s"'))
    first, second = scene.start("w1", "w2")
    for worker in (first, second):
        keep_url(worker)
    with scene.load(seed=33) as driver:
        wait_owned(first, 2)
        wait_owned(second, 2)
        for one, other in ((first, second), (second, first), (first, second)):
            mine, others = set(owned(one)), counting(other)
            one.terminate()
            driver.wait_sent(driver.total + 1_000)
            one.start()
            one.wait_ready()
            wait_owned(one, 2, 15)
            assert set(owned(one)) == mine
            driver.wait_sent(driver.total + 2_000)
            assert counting(other) == others, "the other's partitions were revoked"
            assert len(counting(one)) == 2
    expected = scene.verifier.check_live(first)
    scene.verifier.check_api(expected, second)
    scene.stop()
    scene.verifier.check_stopped(expected)


def test_of_two_workers_with_one_name_the_older_one_ends(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    (first,) = scene.start("w1")
    elsewhere = scene.folder / "another-host"
    elsewhere.mkdir()
    config = elsewhere / "recount.toml"
    config.write_text(scene.config.read_text().replace(f"{scene.folder}/data", f"{elsewhere}/data"))
    second = Worker("w1", config, elsewhere)
    scene.workers.append(second)
    with scene.load(seed=34) as driver:
        driver.wait_sent(4_000)
        second.start()
        assert first.wait(60) == 4, first.log()[-3000:]
        assert "refused: instance w1" in first.log()
        assert "app.instance" in first.log()
        second.wait_ready()
        driver.wait_sent(driver.total + 4_000)
    expected = scene.verifier.check_live(second)
    assert len(owned(second)) == 2
    scene.stop()
    scene.verifier.check_stopped(expected)


@pytest.mark.long
def test_partitions_added_while_it_was_away_are_counted_after_a_restart(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    (worker,) = scene.start("w1")
    keep_url(worker)
    for _ in range(2):  # the second time it doesn't know that it leads the group
        worker.terminate()
        worker.start()
        worker.wait_ready()
    worker.terminate()
    kafka.run_apart(kafka.grow_topic(scene.bootstrap, scene.topic, 4))
    worker.start()
    worker.wait_ready()
    wait_owned(worker, 4, 15)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("blocked", ["the event loop is stuck", "time.sleep(3600)"]),
        ("dead", ["the worker crashed", "ZeroDivisionError"]),
        ("deaf", ["the worker crashed", "stands still at offset"]),
    ],
)
def test_a_worker_that_counts_no_more_ends_and_another_counts_on(
    make_scene: MakeScene, monkeypatch: pytest.MonkeyPatch, fault: str, said: list[str]
) -> None:
    scene = make_scene(partitions=2)
    monkeypatch.setenv("FAULT", fault)
    faulty = scene.worker("w1", "tests.e2e.faulty_app")
    faulty.start()
    faulty.wait_ready()
    with scene.load(seed=35, rate=1000) as driver:
        assert faulty.wait(60) == 70, faulty.log()[-3000:]
        driver.wait_sent(3_000)
        assert all(one in faulty.log() for one in said), faulty.log()[-3000:]
        (other,) = scene.start("w2")
    expected = scene.verifier.check_live(other)
    scene.stop()
    scene.verifier.check_stopped(expected)
