"""Ends of transactions whose request or answer is lost, late or cut off: the outcome is Kafka's, and nobody's guess."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.spec import changelog_topic
from lab import Lab
from tables.changelog import transactional_id
from tests import kafka
from tests.e2e.faults.proxy import Fate, Met, Proxies
from tests.e2e.faults.test_crash_points import RATE, check
from tests.e2e.scene import Scene, on_its_own_topic
from tests.kafka import run_apart
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

DONE, OLD_EPOCH = 0, 47
ROUNDS = 3
TAINTED = "commit outcome unknown: asking the group"


@pytest.fixture(scope="module")
def proxies() -> Iterator[Proxies]:
    """In front of a broker of its own. Only workers are sent through them."""
    with Proxies(1) as found, Lab() as lab:
        broker = lab.kafka(1, fronts=found.ports)
        found.forward_to(broker.behind)
        found.straight = broker.bootstrap_servers
        yield found


class Line:
    """A scene whose workers go through the proxies."""

    def __init__(self, scene: Scene, proxies: Proxies) -> None:
        self.scene = scene
        self.proxies = proxies
        text = scene.config.read_text()
        assert scene.bootstrap in text
        scene.config.write_text(text.replace(scene.bootstrap, proxies.bootstrap_servers))
        (self.worker,) = scene.start("w1")

    def meet(self, partition: int, fate: Fate, delay_s: float = 0.0) -> Met:
        """The next commit of a partition meets this fate; returns when it has."""
        count = len(self.met(partition))
        self.arm(partition, fate, delay_s=delay_s)
        return self.wait_met(partition, count + 1)[-1]

    def arm(self, partition: int, *fates: Fate, delay_s: float = 0.0) -> None:
        self.proxies.arm(transactional_id(self.scene.app, self.scene.topic, partition), *fates, delay_s=delay_s)

    def wait_met(self, partition: int, count: int) -> list[Met]:
        """Until so many commits of a partition met their fates in all."""
        wait_for(f"{count} commits of {partition} to meet fates", lambda: len(self.met(partition)) >= count, 60)
        return self.met(partition)

    def met(self, partition: int) -> list[Met]:
        identity = transactional_id(self.scene.app, self.scene.topic, partition)
        return [one for one in self.proxies.met if one.transactional_id == identity]

    def tainted(self) -> int:
        return len(self.worker.entries(TAINTED))

    def wait_tainted(self, times: int) -> None:
        wait_for(f"{times} unknown outcomes", lambda: self.tainted() >= times, 60)

    def aborted_rows(self) -> dict[int, int]:
        """Rows in the changelog that were never committed, by partition. Workers must have ended."""
        log = changelog_topic(self.scene.app, self.scene.topic)
        every = run_apart(kafka.read_topic(self.scene.bootstrap, log, isolation_level="read_uncommitted"))
        settled = run_apart(kafka.read_topic(self.scene.bootstrap, log, settled=True))
        return {partition: len(every[partition]) - len(settled[partition]) for partition in every}


@pytest.fixture
def line(proxies: Proxies, tmp_path: Path) -> Iterator[Line]:
    scene = on_its_own_topic(proxies.straight, tmp_path, 2)
    try:
        yield Line(scene, proxies)
    finally:
        scene.close()


def test_a_commit_that_nobody_answers_is_restored_to_what_kafka_decided(line: Line) -> None:
    with line.scene.load(seed=81, rate=RATE) as driver:
        line.scene.wait_counts_on(line.worker, driver)
        done = line.meet(0, Fate.LOSE_ANSWER)
        lost = line.meet(1, Fate.LOSE_REQUEST)
        line.wait_tainted(2)
        line.scene.wait_counts_on(line.worker, driver)
        cut = line.meet(0, Fate.CUT_AFTER)
        line.wait_tainted(3)
        line.scene.wait_counts_on(line.worker, driver)
    assert (done.error, lost.error, cut.error) == (DONE, None, DONE)
    assert line.tainted() == 3
    check(line.scene, line.worker, hbase=False)
    aborted = line.aborted_rows()
    assert aborted[0] == 0, "it was done, and nothing else was undone"
    assert aborted[1] > 0, "it never came to the broker"


@pytest.mark.long
@pytest.mark.parametrize("fate", [Fate.LATE_REQUEST, Fate.CUT_LATE])
def test_a_commit_that_comes_to_the_broker_after_the_next_ones_ends_none_of_them(line: Line, fate: Fate) -> None:
    with line.scene.load(seed=82, rate=RATE) as driver:
        line.scene.wait_counts_on(line.worker, driver)
        late = line.meet(1, fate)
        line.scene.wait_counts_on(line.worker, driver)
        assert late.error is None
        assert line.proxies.release() == 1
        wait_for("the broker's word on it", lambda: late.error is not None)
        line.scene.wait_counts_on(line.worker, driver)
    assert late.error == OLD_EPOCH
    assert line.tainted() == 1
    check(line.scene, line.worker, hbase=False)
    assert line.aborted_rows()[1] > 0


@pytest.mark.long
def test_a_connection_that_breaks_at_a_commit_is_an_unknown_outcome_and_a_slow_answer_is_none(line: Line) -> None:
    with line.scene.load(seed=83, rate=RATE) as driver:
        line.scene.wait_counts_on(line.worker, driver)
        for times in range(1, 6):
            done = line.meet(0, Fate.CUT_AFTER)
            line.meet(1, Fate.CUT_BEFORE)
            line.wait_tainted(2 * times)
            line.scene.wait_counts_on(line.worker, driver)
            assert done.error == DONE
        line.meet(1, Fate.DELAY_ANSWER, delay_s=5.0)
        line.scene.wait_counts_on(line.worker, driver)
    assert line.tainted() == 10
    check(line.scene, line.worker, hbase=False)
    aborted = line.aborted_rows()
    assert aborted[0] == 0
    assert aborted[1] > 0


@pytest.mark.long
def test_commits_lost_again_and_again_are_counted_once(line: Line) -> None:
    with line.scene.load(seed=84, rate=RATE) as driver:
        line.scene.wait_counts_on(line.worker, driver)
        for times in range(1, ROUNDS + 1):
            # The first commit after a restore is lost as well.
            line.arm(0, Fate.LOSE_ANSWER, Fate.LOSE_REQUEST)
            line.arm(1, Fate.LOSE_REQUEST, Fate.DELAY_ANSWER, delay_s=15.0)
            for partition in (0, 1):
                line.wait_met(partition, 2 * times)
            line.wait_tainted(4 * times)
            line.scene.wait_counts_on(line.worker, driver)
    check(line.scene, line.worker, hbase=False)
    assert min(line.aborted_rows().values()) > 0
