"""What Faust's recovery begins with, when the group decides anew in the middle of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from faust.tables.recovery import Recovery
from faust.types import TP

from agents.source import Place
from app.transport.recovery import RestoreRecovery

GENERATION = 7


@dataclass
class App:
    """What a recovery asks of ours, and what it begins with."""

    rebalancing_count: int = 1
    consumer_generation_id: int = GENERATION
    source_topics: frozenset[str] = frozenset({"clicks"})
    begun: list[list[Place]] = field(default_factory=list)
    resumed: int = 0

    @property
    def consumer(self) -> Any:
        return SimpleNamespace(assignment=lambda: {TP("clicks", 1), TP("a topic of Faust", 0)})

    def assign(self, places: list[Place]) -> None:
        self.begun.append(places)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def recovery(app: App, monkeypatch: pytest.MonkeyPatch) -> RestoreRecovery:
    """Without what Faust does on its own account."""

    async def rebalanced(_: Recovery, *_args: object) -> None: ...

    async def resume(_: Recovery, _generation: int) -> None:
        app.resumed += 1

    monkeypatch.setattr(Recovery, "on_rebalance", rebalanced)
    monkeypatch.setattr(Recovery, "_resume_streams", resume)
    made = RestoreRecovery.__new__(RestoreRecovery)
    made.app = app
    return made


async def rebalance(recovery: RestoreRecovery) -> None:
    await recovery.on_rebalance(set(), set(), set(), GENERATION)


async def test_what_was_given_is_begun_once_faust_is_ready(recovery: RestoreRecovery, app: App) -> None:
    await rebalance(recovery)
    assert app.begun == []
    await recovery._resume_streams(GENERATION)
    assert app.begun == [[Place("clicks", 1)]]
    assert app.resumed == 1


async def test_what_was_revoked_meanwhile_waits_for_the_next_assignment(recovery: RestoreRecovery, app: App) -> None:
    await rebalance(recovery)
    app.rebalancing_count += 1  # the group takes everything back
    await recovery._resume_streams(GENERATION)
    assert app.begun == [], "it isn't ours any more"
    assert app.resumed == 0
    await rebalance(recovery)
    await recovery._resume_streams(GENERATION)
    assert app.begun == [[Place("clicks", 1)]]


async def test_what_another_generation_was_given_is_not_begun(recovery: RestoreRecovery, app: App) -> None:
    await rebalance(recovery)
    app.consumer_generation_id += 1
    await recovery._resume_streams(GENERATION)
    assert app.begun == []
