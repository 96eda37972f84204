"""Event times of every kind: out of order, late, long after the others, in one go, or never again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import BACK_MS, send
from tests.e2e.input import Input, Sent, Shares
from tests.e2e.scene import Scene
from tests.e2e.test_counting import counted
from tests.e2e.verifier import Expected
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

DISORDER = Shares(malformed=50, late=300, expired=200, implausible=100, jitter_ms=55_000)


def start_ms() -> int:
    return int(time.time() * 1000) - BACK_MS


def check(scene: Scene, worker: Worker, *, hbase: bool = False) -> Expected:
    """Everything there is, once the driver has stopped; ends the workers."""
    expected = scene.verifier.check_live(worker)
    if hbase:
        scene.verifier.wait_in_hbase(worker)
        scene.verifier.check_hbase(expected)
    scene.stop()
    scene.verifier.check_stopped(expected)
    return expected


@pytest.mark.long
def test_events_mostly_out_of_order_late_or_impossible_are_each_counted_in_their_class(make_scene: MakeScene) -> None:
    scene = make_scene()
    workers = scene.start("w1", "w2")
    with scene.load(records=Input(61, scene.partitions, start_ms(), shares=DISORDER)) as driver:
        driver.wait_sent(25_000)
        workers[1].kill()
        driver.wait_sent(35_000)
        workers[1].start()
        workers[1].wait_ready()
        driver.wait_sent(50_000)
    expected = check(scene, workers[0])
    for table in scene.tables:
        tallies = expected.tallies(table)
        assert sum(tallies.values()) == expected.records
        assert min(tallies[kind] for kind in ("malformed", "late", "expired", "on_time")) > 500, tallies
    usual = expected.tallies("page_views")
    assert sum(usual[kind] for kind in ("malformed", "late", "expired")) > usual["on_time"], usual
    assert expected.finals > 100
    assert expected.dropped > 10


class Sleeper:
    """Input of all partitions; the last one gets nothing while `asleep`, then goes on by its own clock."""

    def __init__(self, seed: int, partitions: int) -> None:
        self._random = Random(seed)
        self._others = Input(seed, partitions - 1, start_ms())
        self._own = Input(seed + 1, 1, start_ms())
        self.place = partitions - 1
        self._partitions = partitions
        self.asleep = False

    def next(self) -> Sent:
        if self.asleep or self._random.randrange(self._partitions):
            return self._others.next()
        one = self._own.next()
        return Sent(self.place, one.timestamp, one.key, one.value)


def closed_for_others(scene: Scene, expected: Expected, table: str, sleeper: int) -> set[int]:
    """Windows that every other partition has expired."""
    by_partition = expected.tables[table]
    return set.intersection(
        *(scene.verifier.expired(table, one) for place, one in by_partition.items() if place != sleeper)
    )


@pytest.mark.long
def test_a_partition_that_wakes_after_the_others_retention_counts_its_events_on_time(make_scene: MakeScene) -> None:
    scene = make_scene()
    records = Sleeper(62, scene.partitions)
    workers = scene.start("w1", "w2")
    with scene.load(records=records) as driver:
        driver.wait_sent(8_000)
        records.asleep = True
        slept_at = driver.total
        driver.wait_sent(slept_at + 40_000)  # 11 minutes of theirs, and more
        scene.verifier.wait_caught_up(workers[0], archive=False)
        before = scene.verifier.ends()[records.place]
        left = {table: gone(workers[0], table) for table in scene.tables}
        records.asleep = False
        driver.wait_sent(driver.total + 2_000)
        workers[0].kill()  # whoever restores it, too
        driver.wait_sent(driver.total + 10_000)
        workers[0].start()
        workers[0].wait_ready()
        driver.wait_sent(driver.total + 14_000)
    expected = scene.verifier.check_live(workers[1])
    for table in scene.tables:
        own = expected.tables[table][records.place]
        others = closed_for_others(scene, expected, table, records.place)
        woken = {
            start
            for start, one in own["certificates"].items()
            if start in others and one["on_time"]["last"] >= before and one["on_time"]["count"]
        }
        assert len(woken) > 1, f"{table}: nothing on time came for windows that the others had dropped"
        assert left[table] & woken, f"{table}: no window had been dropped before it got more on-time events"
    assert any(one["window_start"] in others for _, _, one in finals_of(scene, records.place))
    scene.stop()
    scene.verifier.check_stopped(expected)


def gone(worker: Worker, table: str) -> set[int]:
    """Windows that at least one partition has dropped."""
    answer = worker.get(f"/api/v1/tables/{table}/windows")
    return {one["start_ms"] for one in answer["windows"] if one["dropped"]}


def finals_of(scene: Scene, place: int) -> list[tuple[int, str, Mapping[str, Any]]]:
    return [one for one in scene.verifier.finals(f"{scene.topic}-finals") if one[0] == place]


def peak_kib(worker: Worker) -> int:
    """Largest resident size so far."""
    (line,) = (one for one in Path(f"/proc/{worker.pid}/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1])


@pytest.mark.long
def test_a_backlog_of_fifty_seconds_is_counted_in_one_go_within_bounded_memory(make_scene: MakeScene) -> None:
    scene = make_scene(hbase=True)
    usual = 500
    (worker,) = scene.start("w1")
    records = Input(63, scene.partitions, start_ms())
    with scene.load(records=records, rate=usual) as driver:
        driver.wait_sent(4 * usual)
        wait_for("it to count", lambda: counted(worker) > 2 * usual, 60)
        usually_kib = peak_kib(worker)
        worker.terminate()
        standing = driver.total
        driver.rate = 10 * usual  # five seconds of that are fifty of the usual
        driver.wait_sent(standing + 50 * usual)
        driver.rate = usual
        piled = driver.total - standing
        worker.start()
        worker.wait_ready()
        began = time.monotonic()
        wait_for("the backlog to be counted", lambda: counted(worker) >= standing + piled, 120)
        took_s = time.monotonic() - began
        grown_mib = (peak_kib(worker) - usually_kib) / 1024
        driver.wait_sent(driver.total + 2 * usual)
    print(f"{piled} records piled up were counted in {took_s:.1f} s; {grown_mib:.0f} MiB more at the peak")
    assert piled >= 50 * usual
    assert took_s < 50, "slower than they came"
    assert grown_mib < 150, f"{grown_mib:.0f} MiB more than usual"
    check(scene, worker, hbase=True)


WINDOW_MS = 60_000
GRACE_MS = 60_000


def one_event(partition: int, at_ms: int, page: str) -> Sent:
    event = {"ts": at_ms, "page": page, "user": 1, "id": page}
    return Sent(partition, at_ms, b"k", json.dumps(event).encode())


async def send_events(scene: Scene, events: list[Sent]) -> None:
    async with kafka.producer(scene.bootstrap) as producer:
        await send(producer, scene.topic, events)


def test_a_window_that_no_event_follows_shows_closed_and_its_finals_wait(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=2)
    scene.config.write_text(scene.config.read_text() + '[web]\nidle_timeout = "1s"\n')
    (worker,) = scene.start("w1")
    first = (start_ms() // WINDOW_MS) * WINDOW_MS
    # The second partition's stream time closes the window there, to the millisecond; the first one's stops short of it.
    due = first + WINDOW_MS + GRACE_MS
    events = [
        one_event(0, first + 1, "/a"),
        one_event(0, due - 1, "/b"),
        one_event(1, first, "/a"),
        one_event(1, due, "/b"),
    ]
    kafka.run_apart(send_events(scene, events))
    scene.verifier.check_live(worker)

    def states() -> dict[int, str]:
        windows = worker.get("/api/v1/tables/page_views/windows")["windows"]
        return {one["start_ms"]: one["state"] for one in windows}

    wait_for("the idle partitions' windows to show closed", partial(shows, states, first, "closed"), 30)
    (final,) = scene.verifier.finals(f"{scene.topic}-finals")
    assert (final[0], final[2]["window_start"]) == (1, first), "a label closes no window: the other partition's waits"
    worker.terminate()  # nor does a restart
    worker.start()
    worker.wait_ready()
    kafka.run_apart(send_events(scene, [one_event(0, first + 2, "/a")]))  # on time, however long it was idle
    expected = scene.verifier.check_live(worker)
    assert expected.finals == 1
    kafka.run_apart(send_events(scene, [one_event(0, due, "/c"), one_event(0, first + 3, "/a")]))
    expected = scene.verifier.check_live(worker)
    assert expected.finals == 2
    tallies = expected.tables["page_views"][0]["tallies"]
    assert (tallies["on_time"], tallies["late"]) == (4, 1)
    scene.stop()
    scene.verifier.check_stopped(expected)


def shows(states: Any, start: int, state: str) -> bool:
    return bool(states().get(start) == state)
