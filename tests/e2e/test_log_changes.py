"""Logs that change behind the worker's back are refused, never miscounted."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.transport.members import members_of
from lab import Lab
from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import BACK_MS, Driver
from tests.e2e.input import Input
from tests.e2e.scene import Scene
from tests.e2e.verifier import Expected
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

DEADLINE_S = 60.0
FULL = "backlog full"


def counted(scene: Scene, *, seed: int, records: int = 10_000) -> Worker:
    """A worker that has counted some records and was stopped."""
    (worker,) = scene.start("w1")
    with scene.load(seed=seed) as driver:
        driver.wait_sent(records)
    scene.verifier.wait_caught_up(worker)
    wait_for("the group's offsets to be committed", lambda: kafka.run_apart(group(scene)), DEADLINE_S)
    worker.terminate()
    return worker


def send_more(scene: Scene, *, seed: int, records: int, later_ms: int = 0) -> None:
    """Nobody watches the API meanwhile; `later_ms` by the input's clock after what other drivers began with."""
    back_ms = BACK_MS - later_ms
    with Driver(scene.bootstrap, scene.topic, partitions=scene.partitions, seed=seed, back_ms=back_ms) as driver:
        driver.wait_sent(records)
        driver.stop()


async def group(scene: Scene) -> bool:
    found = await kafka.group_offsets(scene.bootstrap, scene.app)
    return len(found) == scene.partitions and all(offset > 0 for offset in found.values())


def refused(worker: Worker, *arguments: str) -> str:
    worker.start(*arguments)
    assert worker.wait(DEADLINE_S) == 4, worker.log()[-3000:]
    return worker.log()


def test_a_topic_made_anew_and_filled_past_our_offset_is_refused(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=1)
    worker = counted(scene, seed=31)
    (end,) = scene.verifier.ends().values()
    kafka.run_apart(kafka.delete_topic(scene.bootstrap, scene.topic))
    kafka.run_apart(kafka.create_topic(scene.bootstrap, scene.topic, 1, {}))
    send_more(scene, seed=32, records=2 * end)
    said = refused(worker)
    assert f"topic {scene.topic} was re-created" in said
    assert "is not the one that was counted" in said


def test_deleted_records_are_a_gap_that_only_the_operator_can_accept(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=1)
    worker = counted(scene, seed=33, records=45_000)  # 15 minutes: the gap can't touch the first of them
    (end,) = scene.verifier.ends().values()
    send_more(scene, seed=34, records=1_000, later_ms=900_000)
    begin = end + 100
    (before,) = scene.verifier.log().values()
    kafka.run_apart(kafka.delete_records(scene.bootstrap, scene.topic, {0: begin}))
    advice = f"--accept-gap {scene.topic}-0:{end}-{begin - 1}"
    assert advice in refused(worker)
    assert advice in refused(worker, "--accept-gap", f"{scene.topic}-0:{end}-{begin}"), "that range only"
    worker.start(*advice.split())
    worker.wait_ready()
    scene.verifier.wait_caught_up(worker)
    worker.terminate()
    worker.start()
    worker.wait_ready()
    # Everything but what is gone is counted, and what that may have belonged to is marked.
    send_more(scene, seed=36, records=500, later_ms=950_000)
    scene.verifier.wait_caught_up(worker)
    check_with_a_gap(scene, worker, before, end, begin)


def check_with_a_gap(scene: Scene, worker: Worker, before: list[kafka.Record], end: int, begin: int) -> Expected:
    """Everything but [end, begin) is counted, and what that may have belonged to is marked; `before` it was deleted."""
    whole = before + [one for one in scene.verifier.log()[0] if one.offset > before[-1].offset]
    seen = [one for one in whole if one.offset < end or one.offset >= begin]
    expected = scene.verifier.recount({0: seen})
    scene.verifier.check_changelog(expected)
    scene.verifier.check_api(expected, worker)
    last_before = max((one for one in seen if one.offset < end), key=lambda one: one.offset).timestamp
    first_after = min((one for one in seen if one.offset >= begin), key=lambda one: one.offset).timestamp
    for table, window_ms in zip(scene.tables, (60_000, 120_000, 300_000), strict=True):
        low, high = last_before - 600_000 - window_ms, first_after + 60_000
        partial = scene.verifier.partial(table)
        assert partial == {start: low < start <= high for start in partial}
        assert any(partial.values())
    assert not all(scene.verifier.partial(scene.tables[0]).values())
    return expected


@contextmanager
def asleep(worker: Worker, _: Lab) -> Iterator[None]:
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


@contextmanager
def held_by_a_full_archive(worker: Worker, lab: Lab) -> Iterator[None]:
    """HDFS hangs until the worker reads no more: its backlog is full."""
    servers = lab.hdfs().servers
    for server in servers:
        server.pause()
    try:
        wait_for("the backlog to be full", lambda: worker.entries(FULL), DEADLINE_S)
        yield
    finally:
        for server in servers:
            server.resume()
        for server in servers:
            server.wait_ready()


LAGS = {
    "asleep for a moment": (asleep, "30s", "file"),
    "asleep past its session": (asleep, "4s", "file"),
    "held by a full archive": (held_by_a_full_archive, "30s", "hdfs"),
}


@pytest.mark.parametrize(
    "why", [one if one == "asleep for a moment" else pytest.param(one, marks=pytest.mark.long) for one in LAGS]
)
def test_records_deleted_ahead_of_a_worker_that_lags_are_refused_by_their_range(
    make_scene: MakeScene, lab: Lab, why: str
) -> None:
    held, session, archive = LAGS[why]
    scene = make_scene(archive, 1)
    text = scene.config.read_text().replace('session_timeout = "4s"', f'session_timeout = "{session}"')
    scene.config.write_text(text.replace("sync_interval", 'backlog_bytes = "1MiB"\nsync_interval'))
    (worker,) = scene.start("w1")
    records = Input(37, 1, int(time.time() * 1000) - BACK_MS, step_ms=60)
    with scene.load(records=records) as driver:
        driver.wait_sent(16_000)  # 16 minutes: the gap can't touch the first of them
        wait_for("it to keep up", lambda: counted_to(worker) > 15_500, DEADLINE_S)
        with held(worker, lab):
            worker.watched = False
            lag_began = driver.total
            driver.wait_sent(lag_began + 12_000)
            driver.stop()
            if why == "asleep past its session":
                wait_for("the group to forget it", lambda: not kafka.run_apart(members(scene)), DEADLINE_S)
            (before,) = scene.verifier.log().values()
            begin = scene.verifier.ends()[0] - 100
            kafka.run_apart(kafka.delete_records(scene.bootstrap, scene.topic, {0: begin}))
        assert worker.wait(DEADLINE_S) == 4, worker.log()[-3000:]
        end = scene.verifier.committed()[0][0]
        assert end < begin - 1_000, "it did not lag"
        said = re.search(rf"--accept-gap {scene.topic}-0:(\d+)-{begin - 1}", worker.log())
        assert said, worker.log()[-3000:]
        assert int(said[1]) <= end
        assert f"--accept-gap {scene.topic}-0:{end}-{begin - 1}" in refused(worker), "it is still so after a restart"
        worker.start(*said[0].split())
        worker.wait_ready()
        worker.watched = True
        scene.verifier.wait_caught_up(worker)
    send_more(scene, seed=38, records=500, later_ms=2_000_000)
    scene.verifier.wait_caught_up(worker)
    expected = check_with_a_gap(scene, worker, before, end, begin)
    worker.terminate()
    scene.verifier.check_archive(expected, gap=(end, begin))


def counted_to(worker: Worker) -> int:
    (one,) = worker.get("/api/v1/partitions")["partitions"]
    return int(one["next_offset"])


async def members(scene: Scene) -> int:
    async with kafka.admin(scene.bootstrap) as client:
        return len(await members_of(client, scene.app))


@pytest.mark.long
def test_records_deleted_behind_a_running_worker_change_nothing(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=1)
    (worker,) = scene.start("w1")
    with scene.load(seed=39, rate=2000) as driver:
        kept: dict[int, kafka.Record] = {}
        for _ in range(2):
            driver.wait_sent(driver.total + 4_000)
            kept |= {one.offset: one for one in scene.verifier.log()[0]}
            state, archived = wait_for("the archive to get there", lambda: scene.verifier.committed()[0], DEADLINE_S)
            begin = min(state, archived or 0)
            assert begin > 2_000
            kafka.run_apart(kafka.delete_records(scene.bootstrap, scene.topic, {0: begin}))
            if len(kept) > 8_000:
                worker.kill()  # a restore asks the log, too
                worker.start()
                worker.wait_ready()
        driver.wait_sent(driver.total + 2_000)
    scene.verifier.wait_caught_up(worker)
    kept |= {one.offset: one for one in scene.verifier.log()[0]}
    expected = scene.verifier.recount({0: [kept[offset] for offset in sorted(kept)]})
    scene.verifier.check_finals(expected)
    scene.verifier.check_changelog(expected)
    scene.verifier.check_api(expected, worker)
    assert not any(scene.verifier.partial(scene.tables[0]).values())
    scene.stop()
    scene.verifier.check_stopped(expected)


@pytest.mark.parametrize("local_state", ["kept", "gone"])
def test_a_lost_changelog_is_refused_even_with_the_local_state(make_scene: MakeScene, local_state: str) -> None:
    scene = make_scene(partitions=1)
    worker = counted(scene, seed=35)
    kafka.run_apart(kafka.delete_topic(scene.bootstrap, f"{scene.app}-{scene.topic}-changelog"))
    if local_state == "gone":
        worker = scene.worker("w2")
    said = refused(worker)
    assert f"state of {scene.topic}-0 is lost" in said
    assert "the consumer group had got to offset" in said
