"""Logs that change behind the worker's back are refused, never miscounted."""

from __future__ import annotations

import pytest

from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import BACK_MS, Driver
from tests.e2e.scene import Scene
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

DEADLINE_S = 60.0


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
