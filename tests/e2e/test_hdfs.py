"""HDFS away for a while: counting goes on, and the archive catches up without a hole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import Hdfs, Lab
from tests.e2e.conftest import MakeScene
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e


def pause(hdfs: Hdfs) -> Callable[[], None]:
    for server in hdfs.servers:
        server.pause()

    def back() -> None:
        for server in hdfs.servers:
            server.resume()

    return back


def kill_namenode(hdfs: Hdfs) -> Callable[[], None]:
    hdfs.namenode.kill()
    return lambda: hdfs.namenode.start(wait=False)


def kill_datanode(hdfs: Hdfs) -> Callable[[], None]:
    hdfs.datanode.kill()
    return lambda: hdfs.datanode.start(wait=False)


@pytest.mark.parametrize("away", [pause, kill_namenode, pytest.param(kill_datanode, marks=pytest.mark.long)])
def test_counting_goes_on_without_hdfs_and_the_archive_catches_up(
    make_scene: MakeScene, lab: Lab, away: Callable[[Hdfs], Callable[[], None]]
) -> None:
    scene = make_scene("hdfs")
    hdfs = lab.hdfs()
    (worker,) = scene.start("w1")

    def progress() -> tuple[int, int]:
        found = worker.get("/api/v1/partitions")["partitions"]
        return sum(one["next_offset"] for one in found), sum(one["archive_next_offset"] for one in found)

    with scene.load(seed=6, rate=2000) as driver:
        wait_for("a first archived record", lambda: progress()[1], 60)
        back = away(hdfs)
        try:
            standing = progress()[1]
            counted = driver.total + 8_000
            wait_for("counting to go on", lambda: progress()[0] > counted, 60)
            behind = counted - progress()[1]
            assert behind > 4_000, f"the archive went on from {standing} to {progress()[1]} without HDFS"
        finally:
            back()
        for server in hdfs.servers:
            server.wait_ready()
    expected = scene.verifier.check_live(worker)
    assert worker.running
    scene.stop()
    scene.verifier.check_stopped(expected)
