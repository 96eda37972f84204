"""HBase as one process uses it: one pool of connections, the tables counted into it, the topics kept in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from domain.probe import Probe, no_probe
from sinks.hbase.claim import Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.counts import HBaseCounts, HBaseTable
from sinks.hbase.events import HBaseEvents


class HBaseSinks:
    """Makes the sinks of partitions. Thread safe; connects when a sink is used."""

    def __init__(
        self,
        pool: Pool,
        claimants: Iterable[Claimant],
        events: Collection[str] = (),
        probe: Probe = no_probe,
    ) -> None:
        self._pool = pool
        self._probe = probe
        self._events = frozenset(events)
        self._tables = {one.table: HBaseTable(pool, one, probe) for one in claimants}

    def counts(self, table: str, partition: int) -> HBaseCounts:
        """The sink of one table and partition."""
        return self._tables[table].partition(partition)

    def events(self, topic: str, partition: int, start: int) -> HBaseEvents | None:
        """The sink of one assignment, from its progress on; None: this topic's records don't go to HBase."""
        return HBaseEvents(self._pool, topic, partition, start, self._probe) if topic in self._events else None

    def takes_events(self, topic: str) -> bool:
        return topic in self._events

    def close(self) -> None:
        self._pool.close()
