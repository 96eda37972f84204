"""kill -9 of one of two workers, again and again, while input goes on."""

from __future__ import annotations

from random import Random

import pytest

from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

KILLS = 3
ATTEMPTS = 12


def owned(worker: Worker) -> dict[int, int]:
    """Partitions it counts now, and how far each is committed."""
    try:
        found = worker.get("/api/v1/partitions")["partitions"]
    except OSError:
        return {}
    mine = [one for one in found if one["worker"] == worker.url and one["state"] == "running"]
    return {one["partition"]: one["next_offset"] for one in mine}


def kill_with_work_in_hand(scene: Scene, victim: Worker, r: Random) -> bool:
    """Kill it once it has committed some more records; whether it held records folded and not committed."""
    before = wait_for(f"{victim.name} to own partitions", lambda: owned(victim), 60)
    wanted = sum(before.values()) + r.randint(300, 4000)

    def progressed() -> bool:
        return sum(owned(victim).values()) >= wanted

    wait_for(f"{victim.name} to commit up to {wanted}", progressed, 60)
    folded = victim.metric("recount_batches_total")
    committed = sum(owned(victim).values())
    r_tries = r.randint(1, 20)

    def folds_on() -> bool:
        # Somewhere between two checkpoints: batches were folded since the last commit that shows.
        nonlocal folded, committed, r_tries
        batches, shown = victim.metric("recount_batches_total"), sum(owned(victim).values())
        uncommitted = batches > folded and shown == committed
        folded, committed = batches, shown
        r_tries -= uncommitted
        return uncommitted and r_tries <= 0

    wait_for(f"{victim.name} to fold on", folds_on, 60)
    ends = scene.verifier.ends()
    victim.kill()
    after = scene.verifier.committed()
    return any(after[partition][0] < ends[partition] for partition in before)


def churn(scene: Scene, seed: int, kills: int = KILLS) -> list[Worker]:
    """Kill workers under load until enough of them died with work in hand; both run at the end."""
    r = Random(seed)
    workers = scene.start("w1", "w2")
    with scene.load(seed=seed) as driver:
        valid = 0
        for _ in range(ATTEMPTS):
            victim = r.choice(workers)
            valid += kill_with_work_in_hand(scene, victim, r)
            victim.start()
            if valid == kills:
                break
        assert valid == kills, f"only {valid} of {ATTEMPTS} kills hit work in hand"
        driver.wait_sent(10_000)
    for worker in workers:
        worker.wait_ready()
    return workers


@pytest.mark.parametrize("archive", ["file", pytest.param("hdfs", marks=pytest.mark.long)])
def test_workers_killed_under_load_count_every_record_once(make_scene: MakeScene, archive: str) -> None:
    scene = make_scene(archive)
    first, second = churn(scene, seed=20 + len(archive))
    expected = scene.verifier.check_live(first)
    scene.verifier.check_api(expected, second)
    scene.stop()
    scene.verifier.check_stopped(expected)
    # What is there is all a new machine needs.
    other = scene.worker("w3")
    other.start()
    other.wait_ready()
    assert all(entry["cold"] for entry in other.entries("restored"))
    scene.verifier.check_live(other)
    scene.stop()
    scene.verifier.check_stopped(expected)
