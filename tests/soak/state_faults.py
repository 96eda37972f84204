"""Faults of what workers keep: local state deleted, aged, damaged while they are down; the group's offsets reset."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests import kafka
from tests.e2e.workers import GRACE_S
from tests.soak.fleet import Member
from tests.soak.ground import Ground, Play, happens
from tests.soak.journal import Entry

EMPTY_S = 20.0
BITS = 3
NO_STATE = ("LOCK", "LOG")  # what RocksDB never reads back


def while_down(damage: Callable[[Ground, Entry, Member, Path], bool]) -> Play:
    """Killed or stopped, its state tampered with, started again; as soon as that, or after its session."""

    def play(ground: Ground, entry: Entry) -> None:
        with ground.fleet.any_of(entry.move.which) as member:
            if member is None:
                return
            entry.target = member.worker.name
            if Random(entry.move.dice).random() < 0.5:
                member.kill()
            else:
                member.stop()
            entry.happened = damage(ground, entry, member, _state(ground, member))
            time.sleep(entry.move.lasts_s)
            member.start()

    return play


def _state(ground: Ground, member: Member) -> Path:
    return ground.scene.folder / "data" / member.worker.name / "state"


def _delete(_ground: Ground, _entry: Entry, _member: Member, state: Path) -> bool:
    if not state.exists():
        return False
    shutil.rmtree(state)
    return True


def _age(ground: Ground, entry: Entry, member: Member, state: Path) -> bool:
    """The state of today is kept for the next time."""
    kept = _kept(ground, member)
    there = kept.exists()
    if not state.exists():
        return False
    today = kept.with_suffix(".today")
    state.rename(today)
    if there:
        shutil.copytree(kept, state)
        shutil.rmtree(kept)
    else:
        shutil.copytree(today, state)
        entry.notes.append("a copy was taken")
    today.rename(kept)
    return there


def keep_copies(ground: Ground) -> None:
    """Of the state of workers that are down, where there is no older one."""
    for member in ground.fleet.wanted:
        if not _kept(ground, member).exists():
            shutil.copytree(_state(ground, member), _kept(ground, member))


def _kept(ground: Ground, member: Member) -> Path:
    return ground.scene.folder / f"{member.worker.name}.aged"


def _flip(_ground: Ground, entry: Entry, member: Member, state: Path) -> bool:
    r = Random(entry.move.dice)
    files = sorted(
        one for one in state.glob("*/*") if one.is_file() and one.stat().st_size and not one.name.startswith(NO_STATE)
    )
    if not files:
        return False
    path = r.choice(files)
    content = bytearray(path.read_bytes())
    places = [r.randrange(len(content) * 8) for _ in range(BITS)]
    for place in places:
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    entry.notes.append(f"{path.relative_to(state)}, {len(content)} bytes, bits {places}")
    member.damaged = True
    return True


state_deleted = while_down(_delete)
state_aged = while_down(_age)
state_flipped = while_down(_flip)


def offsets_reset(ground: Ground, entry: Entry) -> None:
    """All workers down until the group is empty; what it says then is anything but the truth."""
    r = Random(entry.move.dice)
    with ground.fleet.all() as members, ground.kafka:
        for one in members:
            one.stop()
        entry.target = "group"
        ends = ground.scene.verifier.ends()
        wrong = {partition: r.choice((0, r.randrange(end + 1), end + 1000)) for partition, end in ends.items()}

        def committed() -> bool:
            try:
                kafka.run_apart(commit(ground, wrong))
            except (KafkaError, OSError):
                return False  # the group isn't empty yet
            return True

        entry.happened = happens(committed, EMPTY_S + GRACE_S)
        entry.notes.append(f"{wrong}")
        for one in members:
            one.start()


async def commit(ground: Ground, offsets: dict[int, int]) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=ground.scene.bootstrap, group_id=ground.scene.app, enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = {TopicPartition(ground.scene.topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()
