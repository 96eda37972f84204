"""Certificates: what a partition's log says of one window, small enough to keep for good."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from domain.record import Int64s

MASK64 = (1 << 64) - 1


def digest(offsets: Int64s) -> int:
    """Sum mod 2^64 of splitmix64(offset): equal sets of offsets have equal digests, in any order."""
    z = offsets.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return int(z.sum(dtype=np.uint64))


@dataclass(slots=True)
class ClassCount:
    """One class of events in one window; `first` and `last` are offsets, -1 where there is none."""

    count: int = 0
    digest: int = 0
    first: int = -1
    last: int = -1

    def add(self, other: ClassCount) -> None:
        """Add the events of `other`, all at higher offsets."""
        if not other.count:
            return
        self.count += other.count
        self.digest = (self.digest + other.digest) & MASK64
        if self.first < 0:
            self.first = other.first
        self.last = other.last

    @classmethod
    def of(cls, offsets: Int64s) -> ClassCount:
        """Of ascending offsets, at least one."""
        return cls(len(offsets), digest(offsets), int(offsets[0]), int(offsets[-1]))


@dataclass(slots=True)
class Certificate:
    """Of (table, window, partition); `offset` is that of its last event."""

    offset: int = -1
    on_time: ClassCount = field(default_factory=ClassCount)
    late: ClassCount = field(default_factory=ClassCount)
    expired: ClassCount = field(default_factory=ClassCount)
    partial: bool = False
    finals_done: bool = False
    dropped: bool = False

    def add(self, other: Certificate) -> None:
        """Add a later certificate of the same window."""
        self.offset = max(self.offset, other.offset)
        self.on_time.add(other.on_time)
        self.late.add(other.late)
        self.expired.add(other.expired)
        self.partial |= other.partial
