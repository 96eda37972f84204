"""Does everything agree? Pure: the oracle's answer against what the stores, the files and the web say."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from domain.certificate import MASK64, Certificate, ClassCount, digest
from domain.progress import CountsProgress, StateProgress
from domain.record import Int64s
from domain.rows import Cell

CLASSES = ("on_time", "late", "expired")
SHOWN = 3
TOP = 50

CellKey = tuple[int, bytes]  # (window start, key)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that doesn't agree; `start_ms` is its window, if it is about one."""

    what: str
    start_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Truth:
    """What the oracle says of one partition."""

    tallies: Mapping[str, int]
    stream_time: int | None
    cells: Mapping[CellKey, Cell]
    certificates: Mapping[int, Certificate]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Truth:
        return cls(
            tallies=answer["tallies"],
            stream_time=answer["stream_time"],
            cells={
                (int(start), base64.b64decode(key)): Cell(*value)
                for start, by_key in answer["cells"].items()
                for key, value in by_key.items()
            },
            certificates={int(start): _certificate(one) for start, one in answer["certificates"].items()},
        )


def _certificate(one: Mapping[str, Any]) -> Certificate:
    on_time, late, expired = (ClassCount(**one[name]) for name in CLASSES)
    return Certificate(one["offset"], on_time, late, expired)


@dataclass(slots=True)
class State:
    """What a partition's changelog holds, committed."""

    progress: StateProgress | None = None
    archive_next_offset: int | None = None
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    counts: CountsProgress | None = None  # in HBase


@dataclass(frozen=True, slots=True)
class Contents:
    """Records by offset, each with a digest of all there is to it."""

    offsets: Int64s
    contents: Int64s


@dataclass(frozen=True, slots=True)
class Archived:
    """The archive's lines of one partition; `slots` is the window start of the file, -1 for malformed."""

    records: Contents
    slots: Int64s

    def distinct(self) -> int:
        return len(np.unique(self.records.offsets))

    def offsets_in(self, slot: int) -> Int64s:
        found: Int64s = np.unique(self.records.offsets[self.slots == slot])
        return found


MALFORMED_SLOT = -1


@dataclass(frozen=True, slots=True)
class LiveWindow:
    on_time: int
    late: int
    expired: int
    top: Sequence[tuple[bytes, int, int]] | None  # (key, on_time, late); None: the keys are gone from the state


@dataclass(frozen=True, slots=True)
class Live:
    """What the web answers; `complete` only if every partition did."""

    complete: bool
    tallies: Mapping[str, int]
    windows: Mapping[int, LiveWindow]

    @property
    def total(self) -> int:
        return sum(one.on_time + one.late for one in self.windows.values())


def content_of(timestamp: int, key: bytes | None, value: bytes | None) -> int:
    """64 bits that tell a record's time stamp, key and value from any other's."""
    head = b"%d %d %d " % (timestamp, -1 if key is None else len(key), value is None)
    return int.from_bytes(blake2b(head + (key or b"") + (value or b""), digest_size=8).digest(), "little", signed=True)


def state_findings(partition: int, truth: Truth, state: State, end: int, is_expired: Collection[int]) -> list[Finding]:
    """Committed state against the truth. Cells of windows in `is_expired` may have been dropped."""
    where = f"state of partition {partition}"
    progress = state.progress
    if progress is None:
        return [Finding(f"{where}: there is none")]
    found = []
    for name, wanted, got in (
        ("next offset", end, progress.next_offset),
        ("archive's next offset", end, state.archive_next_offset),
        ("stream time", truth.stream_time, progress.stream_time),
        ("tallies", _present(truth.tallies), _present(progress.tallies)),
        ("cuts", [], progress.cuts),
    ):
        if wanted != got:
            found.append(Finding(f"{where}: {name} {got}, wanted {wanted}"))
    for start in sorted(truth.certificates.keys() | state.certificates.keys()):
        certificate = state.certificates.get(start)
        if not same_counts(truth.certificates.get(start), certificate):
            wanted_one = truth.certificates.get(start)
            found.append(Finding(f"{where}: certificate {certificate}, wanted {wanted_one}", start))
        if certificate is not None and certificate.dropped and start not in is_expired:
            found.append(Finding(f"{where}: cells dropped before their time", start))
    dropped = {start for start, one in state.certificates.items() if one.dropped}
    return found + list(_cell_findings(where, truth.cells, state.cells, dropped))


def _cell_findings(
    where: str, wanted: Mapping[CellKey, Cell], got: Mapping[CellKey, Cell], dropped: set[int]
) -> Iterator[Finding]:
    wrong: dict[int, list[str]] = {}
    for at in wanted.keys() | got.keys():
        here = got.get(at)
        if here != wanted.get(at) and not (here is None and at[0] in dropped):
            wrong.setdefault(at[0], []).append(f"{at[1]!r} {here}, wanted {wanted.get(at)}")
    for start, texts in sorted(wrong.items()):
        shown = "; ".join(sorted(texts)[:SHOWN])
        yield Finding(f"{where}: {len(texts)} wrong cells: {shown}", start)


def same_counts(wanted: Certificate | None, got: Certificate | None) -> bool:
    if wanted is None or got is None:
        return wanted is got
    same = all(getattr(wanted, name) == getattr(got, name) for name in CLASSES)
    return same and wanted.offset == got.offset and not got.partial


def _present(tallies: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in tallies.items() if count}


def archive_findings(partition: int, truth: Truth, topic: Contents, archived: Archived) -> list[Finding]:
    """The archive's lines against the topic's records, and their folders against the oracle's windows."""
    where = f"archive of partition {partition}"
    found = []
    lines = archived.records
    missing = np.setdiff1d(topic.offsets, lines.offsets)
    if len(missing):
        found.append(Finding(f"{where}: {len(missing)} records missing, from offset {missing[0]}"))
    foreign = np.setdiff1d(lines.offsets, topic.offsets)
    if len(foreign):
        found.append(Finding(f"{where}: {len(foreign)} offsets the topic doesn't have, from {foreign[0]}"))
    changed = np.unique(lines.offsets[_content_at(topic, lines.offsets) != lines.contents])
    if len(changed):
        found.append(Finding(f"{where}: {len(changed)} records differ from the topic's, from offset {changed[0]}"))
    order = np.lexsort((lines.contents, lines.offsets))
    offsets, contents = lines.offsets[order], lines.contents[order]
    twice = np.unique(offsets[1:][(offsets[1:] == offsets[:-1]) & (contents[1:] != contents[:-1])])
    if len(twice):
        found.append(Finding(f"{where}: {len(twice)} ids with two contents, from offset {twice[0]}"))
    return found + list(_slot_findings(where, truth, archived))


def _content_at(topic: Contents, offsets: Int64s) -> Int64s:
    """The topic's contents at these offsets; of one it doesn't have, some other's."""
    if not len(topic.offsets):
        return np.zeros_like(offsets)
    places = np.minimum(np.searchsorted(topic.offsets, offsets), len(topic.offsets) - 1)
    found: Int64s = topic.contents[places]
    return found


def _slot_findings(where: str, truth: Truth, archived: Archived) -> Iterator[Finding]:
    starts = set(truth.certificates) | set(np.unique(archived.slots).tolist()) - {MALFORMED_SLOT}
    for start in sorted(starts):
        offsets = archived.offsets_in(start)
        one = truth.certificates.get(start, Certificate())
        counts = (one.on_time, one.late, one.expired)
        wanted = (sum(c.count for c in counts), sum(c.digest for c in counts) & MASK64)
        if (len(offsets), digest(offsets)) != wanted:
            what = f"{len(offsets)} records in the window's folder, which aren't its {wanted[0]}"
            yield Finding(f"{where}: {what}", start)
    malformed = len(archived.offsets_in(MALFORMED_SLOT))
    if malformed != truth.tallies.get("malformed", 0):
        yield Finding(f"{where}: {malformed} malformed records, wanted {truth.tallies.get('malformed', 0)}")


def live_findings(truths: Sequence[Truth], live: Live) -> list[Finding]:
    """The web's sums over all partitions against the truth."""
    found = [] if live.complete else [Finding("web: an answer lacks partitions")]
    wanted = sum_tallies(truths)
    if _present(live.tallies) != wanted:
        found.append(Finding(f"web: tallies {dict(live.tallies)}, wanted {wanted}"))
    sums, totals = window_sums(truths), key_totals(truths)
    for start in sorted(sums.keys() | live.windows.keys()):
        one = live.windows.get(start)
        got = Counter() if one is None else Counter(on_time=one.on_time, late=one.late, expired=one.expired)
        if got != sums.get(start, Counter()):
            found.append(Finding(f"web: {dict(got)}, wanted {dict(sums.get(start, Counter()))}", start))
        elif one is not None and one.top is not None and not _are_largest(one.top, totals.get(start, {})):
            found.append(Finding("web: the window's largest keys are others", start))
    return found


def sum_tallies(truths: Sequence[Truth]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for truth in truths:
        total.update(truth.tallies)
    return _present(total)


def window_sums(truths: Sequence[Truth]) -> dict[int, Counter[str]]:
    """Per window the events of each class, over the partitions."""
    sums: dict[int, Counter[str]] = {}
    for truth in truths:
        for start, one in truth.certificates.items():
            sums.setdefault(start, Counter()).update({name: getattr(one, name).count for name in CLASSES})
    return sums


def key_totals(truths: Sequence[Truth]) -> dict[int, dict[bytes, tuple[int, int]]]:
    """Per window each key's (on_time, late), over the partitions."""
    totals: dict[int, dict[bytes, tuple[int, int]]] = {}
    for truth in truths:
        for (start, key), cell in truth.cells.items():
            keys = totals.setdefault(start, {})
            on_time, late = keys.get(key, (0, 0))
            keys[key] = (on_time + cell.on_time, late + cell.late)
    return totals


def _are_largest(top: Sequence[tuple[bytes, int, int]], totals: Mapping[bytes, tuple[int, int]]) -> bool:
    """Whether the counts are true, of different keys, and no other key has more. Ties may fall either way."""
    wanted = sorted((on_time + late for on_time, late in totals.values()), reverse=True)[:TOP]
    true = all(totals.get(key) == (on_time, late) for key, on_time, late in top)
    return true and len({key for key, _, _ in top}) == len(top) and [n + late for _, n, late in top] == wanted
