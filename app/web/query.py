"""Merging the answers of partitions. Pure: from answers to one answer, or to the next question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.web.answers import WindowState
from app.web.wire import Answer, Reply, TopAsk
from tables.view import CellCount, PartitionStatus, WindowCount

TOP_GROWTH = 4
CANDIDATES_MAX = 20_000  # cells listed in one round after the first: bounds memory on flat distributions


@dataclass(frozen=True, slots=True)
class Covered:
    """The newest answer of each partition, and why the others are missing."""

    answers: Mapping[int, Answer]
    missing: Mapping[int, str]
    count_known: bool = True

    @property
    def complete(self) -> bool:
        return self.count_known and not self.missing


@dataclass(frozen=True, slots=True)
class Source:
    """One worker asked: the partitions it is said to own, and its reply or why there is none."""

    url: str
    owns: tuple[int, ...]
    reply: Reply | None
    failure: str = ""


def cover(sources: Iterable[Source], partition_count: int | None) -> Covered:
    """The higher offset wins between two answers for one partition; every partition without one is named."""
    sources = list(sources)
    answers: dict[int, Answer] = {}
    missing = dict.fromkeys(range(partition_count or 0), "no worker owns it")
    for source in sources:
        missing.update(_why_missing(source))
        for answer in source.reply.answers if source.reply else ():
            known = answers.get(answer.partition)
            if known is None or answer.next_offset > known.next_offset:
                answers[answer.partition] = answer
    missing = {partition: why for partition, why in sorted(missing.items()) if partition not in answers}
    return Covered(dict(sorted(answers.items())), missing, partition_count is not None)


def _why_missing(source: Source) -> dict[int, str]:
    if source.reply is None:
        return dict.fromkeys(source.owns, f"{source.url}: {source.failure}")
    here = dict.fromkeys(source.owns, f"{source.url}: not ready")
    return here | {partition: f"{source.url}: {why}" for partition, why in source.reply.not_ready.items()}


At = tuple[str, int]  # (topic, partition)


@dataclass(frozen=True, slots=True)
class CoveredStatuses:
    """The newest status of each partition with its worker, and why the others are missing."""

    statuses: Mapping[At, tuple[str, PartitionStatus]]
    missing: Mapping[At, str]


def cover_statuses(
    sources: Iterable[Source], owners: Mapping[str, Mapping[str, list[int]]], counts: Mapping[str, int | None]
) -> CoveredStatuses:
    """As `cover`, for every topic at once. A topic whose partition count is unknown is missing as partition -1."""
    missing = {(topic, p): "no worker owns it" for topic, count in counts.items() for p in range(count or 0)}
    missing |= {(topic, -1): "its partition count is unknown" for topic, count in counts.items() if count is None}
    statuses: dict[At, tuple[str, PartitionStatus]] = {}
    for source in sources:
        for topic in owners.get(source.url, {}):
            for partition in owners[source.url][topic] if topic in counts else ():
                missing[topic, partition] = f"{source.url}: {source.failure or 'not started'}"
        for status in source.reply.statuses if source.reply else ():
            at = (status.topic, status.partition)
            if at not in statuses or status.next_offset > statuses[at][1].next_offset:
                statuses[at] = (source.url, status)
    missing = {at: why for at, why in sorted(missing.items()) if at not in statuses}
    return CoveredStatuses(dict(sorted(statuses.items())), missing)


@dataclass(frozen=True, slots=True)
class Closing:
    """Labels windows: closed once the stream time of every partition that isn't idle has passed end + grace."""

    known_to_ms: int | None  # lowest stream time of partitions not idle; None: nothing holds a window open
    certain: bool

    def state(self, end_ms: int, grace_ms: int) -> WindowState:
        if self.known_to_ms is not None and self.known_to_ms < end_ms + grace_ms:
            return WindowState.OPEN
        return WindowState.CLOSED if self.certain else WindowState.UNKNOWN


def closing(covered: Covered) -> Closing:
    times = [
        -1 if answer.stream_time_ms is None else answer.stream_time_ms
        for answer in covered.answers.values()
        if not answer.idle
    ]
    return Closing(min(times, default=None), covered.complete)


def stream_time_ms(answers: Iterable[Answer]) -> int | None:
    """Stream time of the furthest partition: the largest event time counted."""
    return max((a.stream_time_ms for a in answers if a.stream_time_ms is not None), default=None)


@dataclass(slots=True)
class WindowSum:
    start_ms: int
    on_time: int = 0
    late: int = 0
    expired: int = 0
    partial: bool = False
    dropped: bool = False
    lost: bool = False

    def add(self, window: WindowCount) -> None:
        self.on_time += window.on_time
        self.late += window.late
        self.expired += window.expired
        self.partial |= window.partial
        self.dropped |= window.dropped
        self.lost |= window.lost


def sum_windows(answers: Iterable[Answer]) -> list[WindowSum]:
    """One sum per window over the partitions, ascending."""
    sums: dict[int, WindowSum] = {}
    for answer in answers:
        for window in answer.windows:
            sums.setdefault(window.start_ms, WindowSum(window.start_ms)).add(window)
    return [sums[start] for start in sorted(sums)]


def sum_tallies(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in tallies:
        for name, records in one.items():
            total[name] = total.get(name, 0) + records
    return dict(sorted(total.items()))


def sum_series(answers: Iterable[Answer]) -> dict[int, CellCount]:
    """One key's cell per window over the partitions, ascending."""
    sums: dict[int, CellCount] = {}
    for answer in answers:
        for start, cell in answer.series:
            sums[start] = _add(sums.get(start), cell)
    return dict(sorted(sums.items()))


def _add(known: CellCount | None, cell: CellCount) -> CellCount:
    if known is None:
        return cell
    return CellCount(cell.key, known.on_time + cell.on_time, known.late + cell.late)


def size(cell: CellCount) -> int:
    return cell.on_time + cell.late


@dataclass(frozen=True, slots=True)
class Top:
    """The largest keys. Not exact: a key that isn't listed may have up to `unseen_max`."""

    cells: list[CellCount]
    exact: bool = True
    unseen_max: int = 0


def top_step(
    answers: Mapping[int, Answer],
    asked: TopAsk,
    wanted: int,
    *,
    last_round: bool = False,
    candidates_max: int = CANDIDATES_MAX,
) -> Top | TopAsk:
    """The top `wanted` keys, or the next question to all partitions.

    1. Each partition's own top list names candidates. 2. Every partition is asked for every candidate.
    3. A key on no list has at most the sum of the lists' last counts; lists grow until the last wanted
       total reaches that. Each question asks lists and candidates together, so that one answer is true at
       one offset; keys the lists name meanwhile join the candidates.
    """
    lists = [answer.top for answer in answers.values()]
    unseen_max = sum(size(cells[-1]) for cells in lists if cells and len(cells) >= asked.count)
    if len(lists) <= 1:
        return Top(_largest((cell for cells in lists for cell in cells), wanted))
    candidates = set(asked.keys)
    listed = {cell.key for cells in lists for cell in cells}
    if not listed <= candidates and not last_round:
        return TopAsk(asked.table, asked.start_ms, asked.count, sorted(listed | candidates))
    totals: dict[bytes, CellCount] = {}
    for answer in answers.values():
        for cell in answer.cells:
            totals[cell.key] = _add(totals.get(cell.key), cell)
    best = _largest(totals.values(), wanted)
    reached = size(best[-1]) if len(best) == wanted else 0
    if listed <= candidates and reached >= unseen_max:
        return Top(best)
    grown = asked.count * TOP_GROWTH
    if last_round or grown * len(lists) > candidates_max:
        return Top(best, exact=False, unseen_max=unseen_max + _largest_listed(lists, candidates))
    return TopAsk(asked.table, asked.start_ms, grown, asked.keys)


def _largest(cells: Iterable[CellCount], wanted: int) -> list[CellCount]:
    return sorted((c for c in cells if size(c) > 0), key=lambda c: (-size(c), c.key))[:wanted]


def _largest_listed(lists: Iterable[list[CellCount]], candidates: set[bytes]) -> int:
    """What the lists alone give to a key that was never asked for everywhere."""
    totals: dict[bytes, int] = {}
    for cells in lists:
        for cell in cells:
            if cell.key not in candidates:
                totals[cell.key] = totals.get(cell.key, 0) + size(cell)
    return max(totals.values(), default=0)
