"""Where taking over begins: after a rebalance, outside its callback. What is ready is read, the rest is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery

from agents.source import Place

Assign = Callable[[list[Place]], None]


class RestoreRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery service, restoring our state instead of its tables, and waiting for none of it.

    Heartbeats go on meanwhile in the consumer's thread.
    """

    _assigned_by = 0  # the rebalance that ended in the assignment we have

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        self._assigned_by = self.app.rebalancing_count
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def _resume_streams(self, generation_id: int = 0) -> None:
        app = self.app
        if app.rebalancing_count != self._assigned_by:
            return  # revoked since; the next assignment comes here again
        if app.consumer_generation_id == generation_id:
            topics = app.source_topics
            app.assign([Place(tp.topic, tp.partition) for tp in app.consumer.assignment() if tp.topic in topics])
        await super()._resume_streams(generation_id)


class RestoreTables(TableManager):  # type: ignore[misc]
    """Holds no tables; exists to hook the recovery above."""

    _recovery: RestoreRecovery | None

    @property
    def recovery(self) -> Any:
        if self._recovery is None:
            self._recovery = RestoreRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
