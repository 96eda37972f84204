"""HDFS loses servers, space or its mind under load; counting goes on or pauses, and nothing is missing afterwards."""

from __future__ import annotations

import signal
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import Hdfs, Lab
from sinks.archive.fs import FileSystem, open_file_system
from sinks.archive.path import attempt_of
from sinks.archive.reader import list_open, list_parts
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.small_disk import SmallDisk, small_disk
from tests.e2e.faults.stage import Stage
from tests.e2e.faults.test_pauses import stopped, wait_shared
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.workers import Worker
from tests.waiting import pass_time, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

OUTAGE_S = 30.0
RATE = 1000
SOFT_LIMIT_S = 60.0  # a lease's: until then HDFS gives the file to no other writer who doesn't recover it
LARGE, SMALL = "256MiB", "1MiB"  # backlogs that the outage does not fill, and fills: shared by four partitions
SMALL_BLOCKS = {
    "dfs.blocksize": str(1 << 20),
    "dfs.datanode.round-robin-volume-choosing-policy.additional-available-space": "0",  # 1 GiB must be free otherwise
}
MEMORY_MAX = 64 << 20  # for all that waits, decoded records and lines among it


@pytest.fixture(scope="module")
def own_hdfs() -> Iterator[Hdfs]:
    """Not the session's, which HBase stands on."""
    with Lab() as lab:
        yield lab.hdfs()


@pytest.fixture
def small_hdfs() -> Iterator[tuple[Hdfs, SmallDisk]]:
    """Another one, whose blocks lie on a small disk, and are small."""
    with Lab() as lab:
        hdfs = lab.hdfs(SMALL_BLOCKS)
        hdfs.datanode.stop()
        with small_disk(hdfs.blocks_directory, "512m") as disk:
            hdfs.datanode.start()
            yield hdfs, disk


@pytest.fixture
def hdfs(own_hdfs: Hdfs) -> Iterator[Hdfs]:
    yield own_hdfs
    mend(own_hdfs)


@pytest.fixture
def hdfs_url(hdfs: Hdfs) -> str:
    return hdfs.url


def mend(hdfs: Hdfs) -> None:
    for server in hdfs.servers:
        server.start(wait=False)
    for server in hdfs.servers:
        server.wait_ready()


def memory(worker: Worker) -> int:
    """Resident bytes of its process."""
    status = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def positions(worker: Worker) -> tuple[int, int]:
    """Over all partitions: counted, and archived."""
    found = worker.get("/api/v1/partitions")["partitions"]
    return sum(one["next_offset"] for one in found), sum(one["archive_next_offset"] for one in found)


# -- servers lost, space lost, an admin's hand -----------------------------------------------------

Back = Callable[[], None]


def kill_namenode(hdfs: Hdfs, _: Scene) -> Back:
    hdfs.namenode.kill()
    return lambda: mend(hdfs)


def kill_datanode(hdfs: Hdfs, _: Scene) -> Back:
    hdfs.datanode.kill()
    return lambda: mend(hdfs)


def restart_both(hdfs: Hdfs, _: Scene) -> Back:
    for server in hdfs.servers:
        server.stop()
    return lambda: mend(hdfs)


def enter_safe_mode(hdfs: Hdfs, _: Scene) -> Back:
    hdfs.admin("-safemode", "enter")
    return lambda: hdfs.admin("-safemode", "leave")


def use_up_the_quota(hdfs: Hdfs, scene: Scene) -> Back:
    folder = f"/{scene.topic}"
    hdfs.admin("-setSpaceQuota", "1", folder)
    return lambda: hdfs.admin("-clrSpaceQuota", folder)


@dataclass(frozen=True)
class Outage:
    begin: Callable[[Hdfs, Scene], Back]
    reason: str  # a word of what the log says
    backlog: str = LARGE


OUTAGES = {
    "NameNode killed": Outage(kill_namenode, "refused"),
    "DataNode killed": Outage(kill_datanode, ""),
    "both stopped, a small backlog": Outage(restart_both, "refused", SMALL),
    "DataNode killed, a small backlog": Outage(kill_datanode, "", SMALL),
    "safe mode": Outage(enter_safe_mode, "safe mode"),
    "no space in the quota": Outage(use_up_the_quota, "quota"),
    "no space in the quota, a small backlog": Outage(use_up_the_quota, "quota", SMALL),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_of_hdfs_stops_at_most_the_intake_and_the_archive_catches_up(
    make_scene: MakeScene, hdfs: Hdfs, name: str
) -> None:
    scene = make_scene("hdfs")
    worker = go_through(scene, hdfs, name, OUTAGES[name])
    check(scene, worker)


def test_a_full_disk_of_the_datanode_pauses_intake_and_with_room_again_the_archive_catches_up(
    make_scene: MakeScene, small_hdfs: tuple[Hdfs, SmallDisk]
) -> None:
    hdfs, disk = small_hdfs

    def fill(_hdfs: Hdfs, _scene: Scene) -> Back:
        disk.fill()

        def make_room() -> None:
            disk.make_room()
            hdfs.datanode.kill()  # what it failed to write is told with the report of its blocks when it starts
            mend(hdfs)

        return make_room

    scene = make_scene()
    scene.set("sinks.archive", url=f"{hdfs.url}/{scene.topic}")
    worker = go_through(scene, hdfs, "the DataNode's disk full, a small backlog", Outage(fill, "", SMALL))
    check(scene, worker)


def go_through(scene: Scene, hdfs: Hdfs, name: str, outage: Outage) -> Worker:
    """An outage under load, until the archive has caught up."""
    scene.set("sinks.archive", backlog_bytes=outage.backlog)
    (worker,) = scene.start("w1")
    with scene.load(seed=len(name), rate=RATE) as driver:
        wait_for("some records to be archived", lambda: positions(worker)[1] > 4_000, 60)
        end_it = outage.begin(hdfs, scene)
        began, before, memory_before = time.monotonic(), positions(worker), memory(worker)
        if outage.backlog == SMALL:
            paused_at, memory_at_pause = wait_paused(scene, worker)
        pass_time(f"{OUTAGE_S:g} s of it", began + OUTAGE_S - time.monotonic())
        counted, archived = positions(worker)
        errors, grown = worker.metric("recount_archive_errors_total"), memory(worker) - memory_before
        assert errors > 2
        reasons = set(worker.retried())
        assert any(outage.reason in reason.lower() for reason in reasons), reasons
        paused = worker.metric("recount_paused")
        if outage.backlog == SMALL:
            assert paused == scene.partitions
            assert counted <= paused_at + 8_000, "what had been fetched, and no more"
            assert memory(worker) < memory_at_pause + MEMORY_MAX
        else:
            assert paused == 0
            assert counted > before[0] + 200 * OUTAGE_S, "counting went on"
            assert counted - archived > 4_000
        end_it()
        took_s, back_at, sent = time.monotonic() - began, time.monotonic(), driver.total
        wait_for("the archive to catch up", lambda: positions(worker)[1] >= sent, 120)
        caught_up_s = time.monotonic() - back_at
        wait_for("the intake to go on", lambda: worker.metric("recount_paused") == 0)
        print(
            f"{name}: {took_s:.0f} s, {driver.total} records, lag {counted - archived}, paused {paused:g},"
            f" {errors:g} errors, memory +{grown >> 20} MiB, caught up in {caught_up_s:.0f} s; {sorted(reasons)[:3]}"
        )
    return worker


def wait_paused(scene: Scene, worker: Worker) -> tuple[int, int]:
    wait_for("the intake to pause", lambda: worker.metric("recount_paused") == scene.partitions, 60)
    return positions(worker)[0], memory(worker)


def check(scene: Scene, worker: Worker) -> None:
    expected = scene.verifier.check_live(worker)
    scene.stop()
    scene.verifier.check_stopped(expected)


# -- files of the dead -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Files:
    """What one worker left open, and what became of it."""

    fs: FileSystem
    root: str
    topic: str
    attempts: frozenset[str]

    @classmethod
    def of(cls, scene: Scene, worker: Worker, url: str) -> Files:
        fs, root = open_file_system(f"{url}/{scene.topic}")
        mine = owned(worker).keys()
        parts = [part for part, _ in list_open(fs, root, scene.topic) if part.partition in mine]
        return cls(fs, root, scene.topic, frozenset(attempt_of(part.attempt) for part in parts))

    def open_count(self) -> int:
        return sum(attempt_of(part.attempt) in self.attempts for part, _ in list_open(self.fs, self.root, self.topic))

    def published(self) -> dict[str, tuple[int, int]]:
        """Length and crc32 of each file under its final name."""
        found = {}
        for part, status in list_parts(self.fs, self.root, self.topic):
            if attempt_of(part.attempt) in self.attempts:
                found[status.path] = (status.length, zlib.crc32(self.fs.read(status.path)))
        return found


def start_two(scene: Scene) -> tuple[Worker, Worker]:
    one, two = scene.start("w1", "w2")
    wait_for("both to count", lambda: owned(one) and owned(two), 60)
    return one, two


def test_files_of_a_killed_worker_are_published_while_their_leases_would_still_hold(
    make_scene: MakeScene, hdfs_url: str
) -> None:
    scene = make_scene("hdfs")
    one, two = start_two(scene)
    with scene.load(seed=91, rate=RATE) as driver:
        stage = Stage(scene, driver, one, two)
        wait_for("some records to be archived", lambda: positions(two)[1] > 8_000, 60)
        files = Files.of(scene, one, hdfs_url)
        open_before, published_before = files.open_count(), files.published()
        assert open_before > 2
        one.kill()
        died_at = time.monotonic()
        stage.wait_taken_over()
        taken_over_s = time.monotonic() - died_at
        wait_for("its files to be recovered", lambda: files.open_count() == 0, 60)
        recovered_s = time.monotonic() - died_at
        assert recovered_s < SOFT_LIMIT_S
        published = files.published()
        assert published.keys() > published_before.keys()
        print(f"{open_before} files, taken over {taken_over_s:.1f} s, recovered {recovered_s:.1f} s after the death")
        one.start()
        one.wait_ready()
    check(scene, two)


def test_a_zombie_adds_nothing_to_files_that_were_recovered_while_it_slept(
    make_scene: MakeScene, hdfs_url: str
) -> None:
    scene = make_scene("hdfs")
    one, two = start_two(scene)
    with scene.load(seed=92, rate=RATE) as driver:
        stage = Stage(scene, driver, one, two)
        wait_for("some records to be archived", lambda: positions(two)[1] > 8_000, 60)
        files = Files.of(scene, one, hdfs_url)
        open_before = files.open_count()
        assert open_before > 2
        one.signal(signal.SIGSTOP)
        wait_for("it to be stopped", lambda: stopped(one))
        stage.wait_taken_over()
        wait_for("its files to be recovered", lambda: files.open_count() == 0, 60)
        published = files.published()
        assert published
        assert stopped(one)
        one.watched = False
        one.signal(signal.SIGCONT)
        wait_shared(stage)
        one.watched = True
        # It may have opened new ones before it heard that it is one: their lines are repeats.
        wait_for("files it opened when it woke to be recovered", lambda: files.open_count() == 0, 60)
        assert published.items() <= files.published().items(), "what it still wrote into these went nowhere"
        print(f"{open_before} files open when it fell asleep, {len(published)} published")
    check(scene, two)
