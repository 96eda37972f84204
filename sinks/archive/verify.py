"""Completeness and content of the archive, proved from its files alone: the ledger against the lines."""

from __future__ import annotations

import zlib
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from domain.certificate import digest
from domain.record import Int64s
from sinks.archive.fs import FileStatus, FileSystem
from sinks.archive.ledger import LedgerLine, read_ledger
from sinks.archive.path import PartName
from sinks.archive.reader import lines_of, list_open, list_parts


@dataclass(frozen=True, slots=True)
class Verified:
    """`problems` is empty when the lines at [start, next_offset) are all here and as they were written."""

    start: int
    next_offset: int
    lines: int  # distinct, at or above start
    problems: list[str] = field(default_factory=list)


def verify_partition(fs: FileSystem, root: str, topic: str, partition: int) -> Verified:
    """Check every ledger line of a partition by itself, and that they leave no hole.

    Holds the partition's offsets in memory. Files open on HDFS read as empty and show up as problems: recover first.
    """
    ledger = [line for _, line in read_ledger(fs, root, topic, partition)]
    files = [
        (part, status)
        for found in (list_open(fs, root, topic), list_parts(fs, root, topic))
        for part, status in found
        if part.partition == partition
    ]
    problems = _content_problems(fs, ledger, files)
    seen = {
        line.offset
        for part, status in files
        for line in lines_of(fs, status.path, whole=part.last is not None)
        if line.partition == partition and line.topic == topic
    }
    offsets = np.array(sorted(seen), dtype=np.int64)
    problems += _completeness_problems(ledger, offsets)
    start = min((line.first for line in ledger), default=0)
    end = max((line.next for line in ledger), default=0)
    return Verified(start, end, int((offsets >= start).sum()), problems)


def _content_problems(fs: FileSystem, ledger: list[LedgerLine], files: list[tuple[PartName, FileStatus]]) -> list[str]:
    """Check the bytes of every file the ledger names against the longest length it gives (and all shorter ones)."""
    claims: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for line in ledger:
        for key, claim in line.files.items():
            claims[key].add(claim)
    paths = {part.ledger_key: status.path for part, status in files}
    problems = []
    for key, wanted in claims.items():
        if key not in paths:
            problems.append(f"{key}: missing")
            continue
        crc = at = 0
        for length, expected in sorted(wanted):
            data = fs.read(paths[key], at, length - at)
            crc, at = zlib.crc32(data, crc), at + len(data)
            if at != length or crc != expected:
                problems.append(f"{key}: the first {length} bytes aren't those written ({at} are there)")
                break
    return problems


def _completeness_problems(ledger: list[LedgerLine], offsets: Int64s) -> list[str]:
    problems = []
    covered: int | None = None
    for line in sorted(ledger, key=lambda line: line.first):
        if covered is not None and line.first > covered:
            problems.append(f"hole: offsets [{covered}, {line.first}) are in no ledger line")
        covered = max(line.next, covered or 0)
        low, high = np.searchsorted(offsets, [line.first, line.next])
        here = offsets[low:high]
        if len(here) != line.lines or digest(here) != line.digest:
            problems.append(f"offsets [{line.first}, {line.next}): {len(here)} lines, the ledger says {line.lines}")
    return problems
