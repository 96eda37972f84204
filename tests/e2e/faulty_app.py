"""The app with a fault that comes after a while, named by FAULT: `python -m tests.e2e.faulty_app`."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agents import intake
from agents.assignment import Assignment
from agents.checkpointer import Checkpointer
from app import cli, watchdog
from app.transport import consumer
from domain.record import Batch
from tables import fetch
from tables.changelog import ChangelogWriter

SOUND_BATCHES = 20
HUNG_COMMITS = 3
HANGING_S = 8.0  # a request may take 10


def blocked() -> None:
    """The agent never comes back, and holds the loop."""
    _after_a_while(lambda: time.sleep(3600))
    watchdog.PATIENCE_S = 3.0


def dead() -> None:
    """The agent dies of a bug."""
    _after_a_while(lambda: 1 // 0)


def deaf() -> None:
    """Nothing that is fetched arrives any more."""
    seen = 0

    async def nothing(kafka: Any, wanted: Iterable[Any], timeout_s: float) -> list[Batch]:
        nonlocal seen
        batches = await fetch.fetch(kafka, wanted, timeout_s)
        seen += len(batches)
        return batches if seen < SOUND_BATCHES else []

    consumer.fetch = nothing  # type: ignore[assignment,attr-defined]
    intake.LOOK_S = 0.5


def hanging() -> None:
    """Each partition's first commits hang, though not long enough to fail. What waits is written to the file MOST."""
    commit, folded = ChangelogWriter._commit, Checkpointer.folded
    hung: Counter[ChangelogWriter] = Counter()
    most = 0

    async def slow(writer: ChangelogWriter, *rest: Any) -> int:
        hung[writer] += 1
        if hung[writer] <= HUNG_COMMITS:
            await asyncio.sleep(HANGING_S)
        return await commit(writer, *rest)

    def measured(checkpointer: Checkpointer) -> None:
        nonlocal most
        waiting = checkpointer._partition.dirty_cells() + checkpointer._in_flight
        if waiting > most:
            most = waiting
            Path(os.environ["MOST"]).write_text(str(most))
        folded(checkpointer)

    ChangelogWriter._commit = slow  # type: ignore[assignment,method-assign]
    Checkpointer.folded = measured  # type: ignore[assignment,method-assign]


def _after_a_while(fault: Any) -> None:
    take = Assignment.take
    taken = 0

    async def faulty(assignment: Assignment, batch: Batch) -> None:
        nonlocal taken
        taken += 1
        if taken > SOUND_BATCHES:
            fault()
        await take(assignment, batch)

    Assignment.take = faulty  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    {"blocked": blocked, "dead": dead, "deaf": deaf, "hanging": hanging}[os.environ["FAULT"]]()
    cli.main()
