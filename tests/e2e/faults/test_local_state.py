"""A worker's local state that is not what it was when it was killed: followed or thrown away, never believed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests import kafka
from tests.e2e.commands import recount
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import Driver
from tests.e2e.local_state import LocalState
from tests.e2e.scene import Scene
from tests.e2e.test_kill import owned
from tests.e2e.test_log_changes import counted, refused, send_more
from tests.e2e.workers import Worker
from tests.waiting import wait_for, wait_until

pytestmark = pytest.mark.e2e

RATE = 1000
DAMAGED, SOUND = 0, 1
TABLE = "senders"


@dataclass
class Play:
    """One worker that is killed under load, again and again; what it keeps of one partition is changed each time."""

    scene: Scene
    driver: Driver
    victim: Worker
    r: Random
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.damaged = LocalState(self.scene, self.victim, DAMAGED)
        self.sound = LocalState(self.scene, self.victim, SOUND)

    def count_on(self) -> None:
        """Until it has committed more of both partitions."""
        before = wait_for(f"{self.victim.name} to own both", self._both, 60)

        def further() -> bool:
            found = owned(self.victim)
            return len(found) == len(before) and all(found[one] > before[one] for one in before)

        wait_for(f"{self.victim.name} to count on", further, 60)

    def _both(self) -> dict[int, int] | None:
        found = owned(self.victim)
        return found if len(found) == self.scene.partitions else None

    def after(self, damage: Callable[[], object], what: str) -> list[bool]:
        """Kill it, do the damage, start it; returns whether each restore of the partition was a cold one."""
        self.count_on()
        self.victim.kill()
        told = damage()
        self.happened.append(f"{what}: {told}")
        print(self.happened[-1])
        sent = self.driver.total
        wait_for("more input", lambda: self.driver.total > sent)
        self.victim.start()
        self.victim.wait_ready()
        self.count_on()
        assert [one["cold"] for one in self.sound.restored()] == [False], "the other is as it was"
        wait_for("its cells to be checked", self.damaged.checked, 60)
        return [bool(one["cold"]) for one in self.damaged.restored()]


@contextmanager
def play(make_scene: MakeScene, seed: int) -> Iterator[Play]:
    """At its end every store is as it must be."""
    scene = make_scene(partitions=2)
    (victim,) = scene.start("w1")
    with scene.load(seed=seed, rate=RATE) as driver:
        driver.wait_sent(2_000)
        yield Play(scene, driver, victim, Random(seed))
    expected = scene.verifier.check_live(victim)
    assert victim.metric("recount_cell_mismatches_total") == 0
    scene.stop()
    scene.verifier.check_stopped(expected)


def test_a_directory_that_is_older_or_has_lost_its_list_of_files_costs_no_count(make_scene: MakeScene) -> None:
    with play(make_scene, seed=51) as one:
        replace_by_older(one)
        assert one.after(lambda: one.damaged.cut_short("MANIFEST-*", 0.8), "cut short") == [True]


def replace_by_older(one: Play) -> None:
    """Put back what it was two deaths ago."""
    older: list[Path] = []
    assert one.after(lambda: older.append(one.damaged.keep("older")), "kept") == [False]
    old = one.damaged.position(older[0])
    told: list[int] = []

    def replace() -> str:
        told.append(one.damaged.position().offset - old.offset)
        one.damaged.replace(older[0])
        return f"{told[0]} rows older"

    assert one.after(replace, "an older copy") == [False], "it was followed"
    assert told[0] > 0
    (entry,) = one.damaged.restored()
    assert entry["rows"] > told[0] // 2, "what it lacked was read again"  # offsets count the ends of transactions too


@pytest.mark.long
def test_a_directory_that_is_gone_or_somebody_elses_is_restored_from_the_changelog(make_scene: MakeScene) -> None:
    with play(make_scene, seed=52) as one:
        foreign = another_apps(one)
        assert one.after(one.damaged.remove, "removed") == [True]
        assert one.after(lambda: one.damaged.replace(foreign), "another app's") == [True]
        replace_by_older(one)


def another_apps(one: Play) -> Path:
    """Of the same partition and topic, counted by another app."""
    scene = one.scene
    elsewhere = scene.folder / "another-app"
    elsewhere.mkdir()
    config = elsewhere / "recount.toml"
    text = scene.config.read_text().replace(f'"{scene.app}"', f'"{scene.app}-too"').replace('-finals"', '-finals-too"')
    config.write_text(text.replace(f"{scene.folder}/", f"{elsewhere}/"))
    other = Worker("w1", config, elsewhere)
    other.start()
    try:
        other.wait_ready()
        wait_for("the other app to count", lambda: other.metric("recount_checkpoints_total") > 4, 60)
        other.kill()
    finally:
        other.close()
    return elsewhere / "data" / "w1" / "state" / one.damaged.path.name


@pytest.mark.long
def test_files_cut_short_cost_no_count(make_scene: MakeScene) -> None:
    with play(make_scene, seed=53) as one:
        for pattern, part in (("CURRENT", one.r.random()), ("MANIFEST-*", 0.8), ("*.sst", one.r.random())):
            assert one.after(lambda: "after a death there are table files", "killed") == [False]
            assert one.after(partial(one.damaged.cut_short, pattern, part), "cut short") == [True]
        for pattern in ("*.log", "MANIFEST-*"):
            assert len(one.after(partial(one.damaged.cut_short, pattern, one.r.random()), "cut short")) == 1


@pytest.mark.long
@pytest.mark.parametrize("seed", [55, 56])
def test_bits_flipped_anywhere_cost_no_count(make_scene: MakeScene, seed: int) -> None:
    with play(make_scene, seed=seed) as one:
        noticed = 0
        for pattern in ("*.log", "*.sst", "MANIFEST-*", "*.sst", "*.log"):
            one.after(lambda: "after a death there are table files", "killed")
            noticed += any(one.after(partial(one.damaged.flip, pattern, one.r), "flipped"))
        assert noticed >= 1, one.happened


@pytest.mark.long
def test_group_offsets_moved_by_a_stranger_move_no_count(make_scene: MakeScene) -> None:
    with play(make_scene, seed=57) as one:
        scene = one.scene
        for moved in (dict.fromkeys(range(scene.partitions), 0), scene.verifier.ends()):

            def move(moved: dict[int, int] = moved) -> object:
                kafka.run_apart(commit_as_stranger(scene, moved))
                found = kafka.run_apart(kafka.group_offsets(scene.bootstrap, scene.app))
                assert found == {(scene.topic, partition): offset for partition, offset in moved.items()}
                return moved

            assert one.after(move, "group offsets moved") == [False]


async def commit_as_stranger(scene: Scene, offsets: dict[int, int]) -> None:
    """Once the group is empty: it takes offsets from anybody then."""
    consumer = AIOKafkaConsumer(bootstrap_servers=scene.bootstrap, group_id=scene.app, enable_auto_commit=False)
    await consumer.start()
    try:
        wanted = {TopicPartition(scene.topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(wanted))

        async def committed() -> bool:
            try:
                await consumer.commit(wanted)
            except KafkaError:
                return False
            return True

        await wait_until("the group to be empty", committed, 60)
    finally:
        await consumer.stop()


@pytest.mark.long
def test_a_wrong_cell_is_found_and_restored_and_one_in_the_changelog_is_refused(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    worker = counted(scene, seed=58, records=6_000)
    state = LocalState(scene, worker, DAMAGED)
    key, value = state.wrong_cell(TABLE)
    # In the directory alone: found, and restored.
    state.put(key, value)
    worker.start()
    worker.wait_ready()
    wait_for("the mismatch", lambda: worker.metric("recount_cell_mismatches_total") == 1, 60)
    wait_for("its cells to add up", state.checked, 60)
    assert [one["cold"] for one in state.restored()] == [False, True]
    send_more(scene, seed=59, records=2_000)
    expected = scene.verifier.check_live(worker)
    scene.stop()
    scene.verifier.check_stopped(expected)
    # In the changelog: refused, and so it is until somebody says what to do.
    key, value = state.wrong_cell(TABLE)
    kafka.run_apart(write_to_changelog(scene, key, value))
    for _ in range(2):
        said = refused(worker)
        assert f"refused: state of {scene.topic}-{DAMAGED}" in said
        assert f"recount reset --table {TABLE}" in said
    code, text = recount(scene, "reset", "--table", TABLE, "--yes")
    assert code == 0, text
    worker.start()
    worker.wait_ready()
    expected = scene.verifier.check_live(worker)
    scene.stop()
    scene.verifier.check_stopped(expected)


async def write_to_changelog(scene: Scene, key: bytes, value: bytes) -> None:
    async with kafka.producer(scene.bootstrap) as producer:
        await producer.send_and_wait(f"{scene.app}-{scene.topic}-changelog", value, key=key, partition=DAMAGED)
