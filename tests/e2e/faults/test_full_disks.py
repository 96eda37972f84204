"""No space left: under the local state, and under the archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli_errors import ExitCode
from tests.e2e.conftest import MakeScene
from tests.e2e.faults.small_disk import small_disk
from tests.e2e.faults.test_hdfs_outages import positions
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

END_S = 30.0
RATE = 2000


def assert_ended_for_lack_of_space(worker: Worker, folder: Path) -> None:
    code = worker.wait(END_S)
    said = worker.log()
    assert code == ExitCode.UNREACHABLE, said[-3000:]
    (last,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert last.startswith(f"error: {folder}/{worker.name}"), last
    assert "No space left on device" in last
    assert "Traceback" not in said


def test_a_full_disk_under_data_dir_ends_the_worker_and_with_room_again_a_restart_is_exact(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with small_disk(data, "32m") as disk:
        scene = make_scene()
        (worker,) = scene.start("w1")
        with scene.load(seed=71, rate=RATE) as driver:
            driver.wait_sent(3_000)
            disk.fill()
            assert_ended_for_lack_of_space(worker, data)
            ends = scene.verifier.ends()
            assert any(0 < done < ends[one] for one, (done, _) in scene.verifier.committed().items()), "work in hand"
            worker.start()
            assert_ended_for_lack_of_space(worker, data)
            disk.make_room()
            worker.start()
            worker.wait_ready()
            driver.wait_sent(driver.total + 3_000)
        expected = scene.verifier.check_live(worker)
        scene.stop()
        scene.verifier.check_stopped(expected)


@pytest.mark.long
def test_a_full_disk_under_the_archive_pauses_intake_and_with_room_again_it_catches_up(
    make_scene: MakeScene, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    with small_disk(archive, "256m") as disk:
        scene = make_scene()
        scene.set("sinks.archive", backlog_bytes="1MiB")
        (worker,) = scene.start("w1")
        with scene.load(seed=72, rate=RATE) as driver:
            wait_for("a first archived record", lambda: positions(worker)[1], 60)
            disk.fill()
            wait_for("the intake to pause", lambda: worker.metric("recount_paused") == scene.partitions, 60)
            standing, sent = positions(worker)[0], driver.total
            wait_for("more input", lambda: driver.total > sent + 8_000, 60)
            assert positions(worker)[0] <= standing + 6_000, "what had been fetched, and no more"
            assert worker.metric("recount_archive_errors_total") > 4
            assert any("No space left on device" in reason for reason in worker.retried())
            assert worker.metric("recount_archive_backlog_bytes") < 4 * scene.partitions * (256 << 10)
            disk.make_room()
            wait_for("the intake to go on", lambda: worker.metric("recount_paused") == 0, 60)
        expected = scene.verifier.check_live(worker)
        scene.stop()
        scene.verifier.check_stopped(expected)
