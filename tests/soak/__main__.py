"""Random faults for a while, from a seed: `python -m tests.soak [--seed N] [--minutes N]`."""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from random import SystemRandom

from lab import Lab
from tests.e2e.driver import Driver
from tests.e2e.monitor import Monitor
from tests.e2e.scene import Scene, add_hbase, set_up
from tests.kafka import create_topic, run_apart, unique
from tests.soak.fleet import Fleet
from tests.soak.ground import LOAD_S, Ground, happens
from tests.soak.journal import Entry, Journal
from tests.soak.plays import PLAYS
from tests.soak.schedule import Move, acts
from tests.soak.server_faults import Tender
from tests.soak.settle import Settled, settle
from tests.waiting import POLL_S, wait_for

PARTITIONS = 4
RATE = 600
STEP_MS = 10  # event time goes six times as fast as the clock
STAGGERED = 3  # faults that go on at a time
START_S = 120.0
ENDED_S = 480.0
SHORTEST_ACT_S = 60.0
# Segments roll and are compacted while it runs, and tombstones go soon.
BROKER = {
    "broker.session.timeout.ms": "60000",
    "log.segment.bytes": str(1 << 20),
    "log.cleaner.min.cleanable.ratio": "0.01",
    "log.cleaner.delete.retention.ms": "10000",
}


def main() -> int:
    options = argparse.ArgumentParser(prog="tests.soak")
    options.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32))
    options.add_argument("--minutes", type=float, default=20.0)
    given = options.parse_args()
    again = f"make test-long SEED={given.seed} MINUTES={given.minutes:g}"
    print(f"soak: seed {given.seed}, {given.minutes:g} minutes: {again}", flush=True)
    for noisy in ("aiokafka", "asyncio"):  # outages are no news here
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix=f"recount-soak-{given.seed}-"))
    journal = Journal(folder / "journal.jsonl", given.seed)
    with Lab() as lab:
        try:
            play(lab, folder, journal, given.seed, given.minutes * 60)
        except BaseException as err:  # noqa: BLE001 - an interrupted run leaves its journal too
            lab.keep_logs()
            journal.write("failed", error=traceback.format_exc())
            if isinstance(err, Exception):
                traceback.print_exc()
            print(f"soak: FAILED, journal and logs are in {folder}; the same schedule again: {again}", file=sys.stderr)
            return 1
    shutil.rmtree(folder)
    return 0


def play(lab: Lab, folder: Path, journal: Journal, seed: int, duration_s: float) -> None:
    lab.kafka(config=BROKER)
    lab.start("kafka", "hbase")
    scene = make_scene(lab, folder)
    back_ms = int(1.5 * duration_s * RATE * STEP_MS)
    driver = Driver(
        scene.bootstrap,
        scene.topic,
        partitions=PARTITIONS,
        seed=seed,
        rate=RATE,
        back_ms=back_ms,
        step_ms=STEP_MS,
        patient=True,
    )
    try:
        ground = Ground(scene, lab, driver, Fleet(scene, journal), journal)
        for one in ground.fleet.members[:2]:
            one.wanted = True
            one.start()
        with driver, Tender(ground), Monitor(driver, scene.workers, scene.tables) as monitor:
            wait_for("all partitions to be counted", partial(all_counted, scene), START_S)
            play_acts(ground, monitor, seed, duration_s)
    finally:
        scene.close()


def all_counted(scene: Scene) -> bool:
    """What has no progress yet and a group offset from a stranger is refused, as it should be."""
    found = scene.workers[0].committed()
    return len(found) == scene.partitions and all(found.values())


def make_scene(lab: Lab, folder: Path) -> Scene:
    topic, bootstrap = unique("clicks"), lab.kafka().bootstrap_servers
    run_apart(create_topic(bootstrap, topic, PARTITIONS, {"max.message.bytes": str(12 << 20)}))
    scene = set_up(bootstrap, topic, PARTITIONS, folder, f"{lab.hdfs().url}/{topic}")
    add_hbase(scene, lab.hbase().address)
    return scene


def play_acts(ground: Ground, monitor: Monitor, seed: int, duration_s: float) -> None:
    began = time.monotonic()
    settled: Settled | None = None
    for number, moves in zip(count(1), acts(seed), strict=False):
        left = duration_s - (time.monotonic() - began)
        if settled is not None and left < SHORTEST_ACT_S:
            break
        play_act(ground, monitor, number, moves, left)
        settled = settle(ground)
        ground.journal.write("settled", act=number, **vars(settled))
        print(f"soak: act {number}: {settled.records} records exact; {ground.journal.table()}", flush=True)
        print(f"soak:   {settled}", flush=True)
    assert settled is not None
    figures = ", ".join(f"{what} {figure}" for what, figure in ground.journal.counts().items())
    minutes = (time.monotonic() - began) / 60
    print(
        f"soak: passed: seed {ground.journal.seed}, {minutes:.1f} minutes, acts {number - 1},"
        f" records {settled.records}, {figures} (valid of all), {ground.journal.restarts} ends for want of a server,"
        f" {monitor.answers} answers watched, lost 0, doubled 0",
        flush=True,
    )


def play_act(ground: Ground, monitor: Monitor, number: int, moves: list[Move], left_s: float) -> None:
    """Faults overlap; it returns when all are over, and leaves out those that come too late."""
    give_up = time.monotonic() + left_s
    going: list[Future[None]] = []
    with ThreadPoolExecutor(STAGGERED, thread_name_prefix="fault") as pool:
        for place, move in enumerate(moves, 1):
            due = time.monotonic() + move.wait_s
            while time.monotonic() < due or len(going) >= STAGGERED:
                going = look(ground, monitor, going)
                time.sleep(POLL_S)
            if time.monotonic() > give_up:
                break
            going.append(pool.submit(one_fault, ground, Entry(number, place, move)))
        end = time.monotonic() + ENDED_S
        while going:
            assert time.monotonic() < end, "faults that don't end"
            going = look(ground, monitor, going)
            time.sleep(POLL_S)


def look(ground: Ground, monitor: Monitor, going: list[Future[None]]) -> list[Future[None]]:
    """Raises what went wrong meanwhile; returns the faults that go on."""
    ground.fleet.look()
    monitor.check()
    for one in going:
        if one.done():
            one.result()
    return [one for one in going if not one.done()]


def one_fault(ground: Ground, entry: Entry) -> None:
    ground.journal.begin(entry)
    sent = ground.driver.total
    PLAYS[entry.move.fault](ground, entry)
    entry.load_ran = happens(lambda: ground.driver.total > sent, LOAD_S)
    ground.journal.end(entry)


if __name__ == "__main__":
    sys.exit(main())
