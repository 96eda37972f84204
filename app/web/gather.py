"""The whole table from any worker: ask the owners, name what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

from app.web.errors import PeerError
from app.web.local import LocalReader
from app.web.peers import Peers
from app.web.query import Covered, Source, Top, cover, top_step
from app.web.wire import Ask, StatusAsk, TableAsk, TopAsk
from domain.spec import TableSpec

TOP_ROUNDS = 16


class Membership(Protocol):
    """Who owns what, as the group last agreed."""

    @property
    def self_url(self) -> str: ...

    def owners(self) -> dict[str, dict[str, list[int]]]:
        """Advertised base URL -> topic -> partitions."""

    def partition_count(self, topic: str) -> int | None:
        """Partitions of a source topic; None while unknown."""


class Gatherer:
    """Asks this worker and the owners at once; each answers for its own partitions only."""

    def __init__(
        self, local: LocalReader, peers: Peers, membership: Membership, tables: Mapping[str, TableSpec]
    ) -> None:
        self._local = local
        self._peers = peers
        self._membership = membership
        self._tables = tables

    async def table(self, ask: TableAsk) -> Covered:
        """Every partition's answer, or why it is missing. The caller has checked the table's name."""
        topic = self._tables[ask.table].topic
        owners = {url: tuple(topics.get(topic, ())) for url, topics in self._membership.owners().items()}
        sources = await self._ask_all(ask, {url: owns for url, owns in owners.items() if owns})
        return cover(sources, self._membership.partition_count(topic))

    async def top(self, table: str, start_ms: int, wanted: int) -> tuple[Covered, Top]:
        """The largest keys of a window over all partitions, and the answers they come from."""
        step: Top | TopAsk = TopAsk(table, start_ms, wanted)
        for left in reversed(range(TOP_ROUNDS)):
            assert isinstance(step, TopAsk)
            covered = await self.table(step)
            step = await asyncio.to_thread(top_step, covered.answers, step, wanted, last_round=left == 0)
            if isinstance(step, Top):
                break
        assert isinstance(step, Top)
        return covered, step

    async def statuses(self) -> list[Source]:
        """Every worker's partitions; a source's `owns` stays empty: owners span topics here."""
        return await self._ask_all(StatusAsk(), dict.fromkeys(self._membership.owners(), ()))

    async def _ask_all(self, ask: Ask, owners: Mapping[str, tuple[int, ...]]) -> list[Source]:
        me = self._membership.self_url
        others = [url for url in owners if url != me]
        answers: Iterable[Source] = await asyncio.gather(
            self._ask_local(ask, me, owners.get(me, ())), *(self._ask_peer(ask, url, owners[url]) for url in others)
        )
        return list(answers)

    async def _ask_local(self, ask: Ask, me: str, owns: tuple[int, ...]) -> Source:
        return Source(me, owns, await self._local.answer(ask))

    async def _ask_peer(self, ask: Ask, url: str, owns: tuple[int, ...]) -> Source:
        try:
            return Source(url, owns, await self._peers.ask(url, ask))
        except PeerError as err:
            return Source(url, owns, None, err.reason)
