"""The end of an act: input stops, everything settles, and every store is compared with a recount of the whole log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from thriftpy2.thrift import TException

from lab.errors import NotReadyError
from lab.process import Server
from tests import kafka
from tests.e2e.verifier import Expected
from tests.soak.fleet import Member
from tests.soak.ground import Ground
from tests.soak.state_faults import keep_copies
from tests.waiting import wait_for

READY_S = 180.0
HBASE_S = 300.0
TRIES = 3
QUIET = 2_000  # records after the last fault


@dataclass
class Settled:
    records: int
    finals: int
    dropped: int
    past: int  # windows looked up in HBase
    changelog: str
    seconds: dict[str, float]


def settle(ground: Ground) -> Settled:
    """Ends all workers, and starts them again. Raises AssertionError at the first difference."""
    times: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        times[what] = round(time.monotonic() - began, 1)
        ground.journal.write("step", step=what, seconds=times[what])
        return result

    verifier, members = ground.scene.verifier, ground.fleet.wanted
    timed("ready", partial(_all_ready, ground))
    ground.driver.hold()
    worker = members[0].worker
    timed("caught up", partial(verifier.wait_caught_up, worker, deadline_s=READY_S))
    expected: Expected = timed("recounted", verifier.expect)
    timed("finals", partial(verifier.check_finals, expected))
    timed("changelog", partial(verifier.check_changelog, expected))
    timed("api", partial(verifier.check_api, expected, members[-1].worker))
    timed("in HBase", partial(patiently, ground, partial(verifier.wait_in_hbase, worker, HBASE_S)))
    timed("HBase", partial(patiently, ground, partial(verifier.check_hbase, expected)))
    past = timed("past", partial(patiently, ground, partial(verifier.check_past, expected, worker)))
    timed("ended", partial(_end, members))
    keep_copies(ground)
    timed("archive", partial(verifier.check_archive, expected))
    verifier.check_group_offsets()
    rows = kafka.run_apart(compaction(ground))
    for one in members:
        one.start()
    ground.driver.go_on()
    return Settled(expected.records, expected.finals, expected.dropped, past, rows, times)


def _all_ready(ground: Ground) -> None:
    """All servers and workers serve, and input goes on for a while without a fault."""
    servers_serve(ground)
    ground.fleet.look()
    for one in ground.fleet.wanted:
        wait_for(f"{one.worker.name} to count or wait for its turn", partial(_serves, ground, one), READY_S)
        one.worker.watched = True
    ground.driver.wait_sent(ground.driver.total + QUIET)


def servers_serve(ground: Ground) -> None:
    for server in ground.lab.servers.values():
        wait_for(f"{server.name} to serve", partial(_answers, server), READY_S)


def _answers(server: Server) -> bool:
    try:
        server.probe()
    except NotReadyError:
        return False
    return True


def patiently(ground: Ground, work: Callable[[], Any]) -> Any:
    """Ask HBase again if it broke down meanwhile: it does on a slow machine. A difference is final."""
    for _ in range(TRIES - 1):
        try:
            return work()
        except (OSError, TException) as err:
            ground.journal.write("asking HBase again", reason=repr(err)[:300])
            servers_serve(ground)
    return work()


def _serves(ground: Ground, member: Member) -> bool:
    ground.fleet.look()
    return member.ready()


def _end(members: list[Member]) -> None:
    for one in members:
        one.worker.terminate()


async def compaction(ground: Ground) -> str:
    """How much of the changelog is left, of what was ever written."""
    topic = f"{ground.scene.app}-{ground.scene.topic}-changelog"
    async with asyncio.timeout(60):
        rows = await kafka.read_topic(ground.scene.bootstrap, topic)
        ends = await kafka.ends(ground.scene.bootstrap, topic)
    return f"{sum(map(len, rows.values()))} of {sum(ends.values())} rows"
