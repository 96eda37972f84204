"""What may happen to the changelog topic itself: batches it doesn't take, a full disk, compaction all the while."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.cli_errors import ExitCode
from domain.spec import changelog_topic
from lab import Kafka, Lab
from tables.rocksdb import RocksSettings, RocksStore
from tests import kafka
from tests.e2e.commands import recount
from tests.e2e.faults.cluster import Cluster, change_topic
from tests.e2e.faults.conftest import MakeReplicated
from tests.e2e.faults.test_crash_points import RATE, check
from tests.e2e.scene import Scene, on_its_own_topic
from tests.e2e.workers import Worker
from tests.kafka import run_apart
from tests.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TAINTED = "commit outcome unknown: asking the group"
DISK_BYTES, FULL_BYTES = 256 << 20, 1 << 20
COMPACTED = {
    "segment_ms": "1000",
    "segment_bytes": str(1 << 20),
    "min_cleanable_dirty_ratio": "0.0001",
    "delete_retention_ms": "100",
}


def rejected(worker: Worker, topic: str) -> Counter[str]:
    """How often it said, by partition, that this topic doesn't take a batch, and what to do about it."""
    found = [one for one in worker.entries(TAINTED) if f"topic {topic} refuses a batch as too large" in one["reason"]]
    assert all(f"--entity-name {topic} --add-config max.message.bytes=" in one["reason"] for one in found)
    return Counter(one["partition"] for one in found)


def wait_rejected(scene: Scene, worker: Worker, topic: str, times: int) -> None:
    """Until batches of every partition were, so many more times."""
    before = rejected(worker, topic)

    def all_were() -> bool:
        now = rejected(worker, topic) - before
        return len(now) == scene.partitions and min(now.values()) >= times

    wait_for("batches of every partition to be rejected", all_were, 90)


@pytest.mark.parametrize("which", ["changelog", "finals"])
def test_nothing_is_committed_past_a_batch_that_a_topic_does_not_take(
    replicated_scene: MakeReplicated, cluster: Cluster, which: str
) -> None:
    scene = replicated_scene(2)
    topic = {"changelog": changelog_topic(scene.app, scene.topic), "finals": f"{scene.topic}-finals"}[which]
    (worker,) = scene.start("w1")
    with scene.load(seed=91, rate=RATE) as driver:
        scene.wait_counts_on(worker, driver)
        change_topic(cluster.bootstrap, topic, max_message_bytes="200")
        wait_rejected(scene, worker, topic, 2)
        stuck = scene.verifier.committed()
        driver.wait_sent(driver.total + 3_000)
        wait_rejected(scene, worker, topic, 2)
        assert scene.verifier.committed() == stuck
        if which == "changelog":
            code, said = recount(scene, "check")
            assert code == ExitCode.CONFIG
            assert f"changelog {topic}: max.message.bytes is 200" in said
            other = scene.worker("w2")
            other.start()
            assert other.wait(60) == ExitCode.REFUSED
            assert "max.message.bytes is 200, must be 524288 or more" in other.log()
        change_topic(cluster.bootstrap, topic, max_message_bytes="1048576")
        scene.wait_counts_on(worker, driver)
    check(scene, worker, hbase=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full soon."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system can't be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_kafka(small_disk: Path) -> Iterator[Kafka]:
    with Lab(parent_directory=small_disk) as lab:
        yield lab.kafka()


def fill(disk: Path) -> Path:
    """A stranger's file takes all there is."""
    ballast = disk / "ballast"
    command = ["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"]
    assert "No space left" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return ballast


def test_a_broker_whose_disk_is_full_loses_and_repeats_nothing(
    small_kafka: Kafka, small_disk: Path, tmp_path: Path
) -> None:
    scene = on_its_own_topic(small_kafka.bootstrap_servers, tmp_path, 2)
    (broker,) = small_kafka.brokers
    try:
        (worker,) = scene.start("w1")
        with scene.load(seed=92, rate=RATE) as driver:
            for _ in range(2):
                scene.wait_counts_on(worker, driver)
                ballast = fill(small_disk)
                wait_for("the broker to end", lambda: broker.died, 60)
                assert shutil.disk_usage(small_disk).free < FULL_BYTES
                ballast.unlink()
                broker.start()
                scene.wait_counts_on(worker, driver)
        check(scene, worker, hbase=False)
    finally:
        scene.close()


def positions(scene: Scene, name: str) -> dict[int, int]:
    """The changelog offset up to which each directory of a dead worker goes."""
    found = {}
    for partition in range(scene.partitions):
        store = RocksStore(scene.folder / "data" / name / "state" / f"{scene.topic}-{partition}", RocksSettings())
        position = store.position()
        store.close()
        assert position is not None
        found[partition] = position.offset
    return found


def test_compaction_all_the_while_changes_no_restore(replicated_scene: MakeReplicated, cluster: Cluster) -> None:
    scene = replicated_scene(2)
    log = changelog_topic(scene.app, scene.topic)
    first, second = scene.worker("w1"), scene.worker("w2")

    def offsets() -> dict[int, set[int]]:
        every = run_apart(kafka.read_topic(scene.bootstrap, log, isolation_level="read_uncommitted"))
        return {partition: {one.offset for one in records} for partition, records in every.items()}

    def gone(places: dict[int, int]) -> bool:
        there = offsets()
        return not any(offset in there[partition] for partition, offset in places.items())

    first.start()
    first.wait_ready()
    change_topic(cluster.bootstrap, log, **COMPACTED)
    with scene.load(seed=93, rate=RATE) as driver:
        for times in range(3):
            scene.wait_counts_on(first, driver)
            first.kill()
            left = positions(scene, "w1")
            second.start()
            second.wait_ready()
            if times == 1:  # it compacts by itself, later
                with cluster.without(1):
                    scene.wait_counts_on(second, driver)
            wait_for("the rows at the directories' positions to be compacted away", partial(gone, left), 120)
            scene.wait_counts_on(second, driver)
            second.kill()
            first.start()
            first.wait_ready()
            restored = first.entries("restored")
            assert len(restored) >= scene.partitions
            assert not any(one["cold"] for one in restored)
            assert all(one["rows"] > 1 for one in restored)
        scene.wait_counts_on(first, driver)
    expected = scene.verifier.check_live(first)
    assert expected.dropped > 10, "hardly a window has left the state, and with it tombstones"
    ends = run_apart(kafka.ends(scene.bootstrap, log, isolation_level="read_uncommitted"))
    for partition, there in offsets().items():
        assert len(there) < ends[partition] / 2, f"{len(there)} of {ends[partition]} rows left: hardly compacted"
    scene.stop()
    scene.verifier.check_stopped(expected)
    other = scene.worker("w3")
    other.start()
    other.wait_ready()
    assert all(entry["cold"] for entry in other.entries("restored"))
    scene.verifier.check_live(other)
    scene.stop()
