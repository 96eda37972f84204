"""Where restore happens: after a rebalance, outside its callback, before anything is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery

from agents.source import Place

Assign = Callable[[list[Place]], Awaitable[None]]


class RestoreRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery service, restoring our state instead of its tables.

    Cancelled by a new rebalance; heartbeats go on meanwhile in the consumer's thread.
    """

    async def _resume_streams(self, generation_id: int = 0) -> None:
        app = self.app
        rebalances = app.rebalancing_count
        if app.consumer_generation_id == generation_id:
            topics = app.source_topics
            places = [Place(tp.topic, tp.partition) for tp in app.consumer.assignment() if tp.topic in topics]
            await self._wait(app.assign(places))
        if app.rebalancing_count == rebalances:  # else the next assignment comes here again
            await super()._resume_streams(generation_id)


class RestoreTables(TableManager):  # type: ignore[misc]
    """Holds no tables; exists to hook the recovery above."""

    _recovery: RestoreRecovery | None

    @property
    def recovery(self) -> Any:
        if self._recovery is None:
            self._recovery = RestoreRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
