"""Room for what waits in memory: one limit for a whole worker."""

from __future__ import annotations


class Room:
    """Split evenly among those who hold something, however many partitions a worker has."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._holders: set[object] = set()

    def enter(self, holder: object) -> None:
        self._holders.add(holder)

    def leave(self, holder: object) -> None:
        """Safe to repeat."""
        self._holders.discard(holder)

    @property
    def share(self) -> int:
        """How much each may hold now."""
        return self._limit // max(1, len(self._holders))
