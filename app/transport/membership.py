"""Who owns what, as the group last agreed."""

from __future__ import annotations

from collections.abc import Mapping

from app.transport.service import RecountApp


class FaustMembership:
    """`app.web.gather.Membership` from the assignor's metadata."""

    def __init__(self, partition_counts: Mapping[str, int]) -> None:
        self.app: RecountApp | None = None  # wired later: the app advertises our URL
        self._counts = partition_counts
        self.self_url = ""  # known once the web server is bound

    def owners(self) -> dict[str, dict[str, list[int]]]:
        return {} if self.app is None else self.app.membership()

    def partition_count(self, topic: str) -> int | None:
        """What we made ready for, and what others were given since: a new partition is made ready by its owner."""
        known = self._counts.get(topic)
        if known is None:
            return None
        given = (partition for topics in self.owners().values() for partition in topics.get(topic, ()))
        return max(known, 1 + max(given, default=-1))
