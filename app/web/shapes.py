"""From covered answers to the public shapes. Pure; large answers are built off the event loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from app.web import answers as public
from app.web.params import iso
from app.web.query import (
    Closing,
    Covered,
    CoveredStatuses,
    Top,
    WindowSum,
    closing,
    size,
    stream_time_ms,
    sum_series,
    sum_tallies,
    sum_windows,
)
from app.web.reply import key_text
from domain.spec import TableSpec
from tables.view import CellCount, PartitionStatus


class _Coverage(TypedDict):
    complete: bool
    missing: list[int]
    missing_why: dict[str, str]
    as_of: list[public.AsOf]


def table_info(table: TableSpec, partitions: int | None) -> public.Table:
    return public.Table(
        name=table.name,
        topic=table.topic,
        key=[public.KeyPart(part.field, part.type.value) for part in table.key],
        window_ms=table.window_ms,
        grace_ms=table.grace_ms,
        retention_ms=table.retention_ms,
        start_ms=table.start_ms,
        dedup=table.dedup,
        finals_topic=table.finals_topic,
        partitions=partitions,
    )


def table_detail(table: public.Table, covered: Covered) -> public.TableDetail:
    tallies = sum_tallies(answer.tallies for answer in covered.answers.values())
    return public.TableDetail(
        **_coverage(covered),
        table=table,
        stream_time_ms=stream_time_ms(covered.answers.values()),
        records=sum(tallies.values()),
        tallies=tallies,
    )


def windows(table: TableSpec, covered: Covered, from_ms: int, to_ms: int) -> public.Windows:
    close = closing(covered)
    return public.Windows(
        **_coverage(covered),
        table=table.name,
        from_ms=from_ms,
        to_ms=to_ms,
        windows=[_window(table, one, close) for one in sum_windows(covered.answers.values())],
    )


def window_detail(table: TableSpec, covered: Covered, start_ms: int, top: Top) -> public.WindowDetail:
    sums = sum_windows(covered.answers.values()) or [WindowSum(start_ms)]
    return public.WindowDetail(
        **_coverage(covered),
        table=table.name,
        window=_window(table, sums[0], closing(covered)),
        top=[_key_count(cell) for cell in top.cells],
        top_exact=top.exact,
        top_unseen_max=top.unseen_max,
    )


def is_dropped(covered: Covered) -> bool:
    """Whether a partition no longer holds the keys of the window asked for: its top would be a smaller sum."""
    return any(window.dropped for answer in covered.answers.values() for window in answer.windows)


def key_series(table: TableSpec, covered: Covered, key: bytes, from_ms: int, to_ms: int) -> public.KeySeries:
    sums = {one.start_ms: one for one in sum_windows(covered.answers.values())}
    dropped = [start for start, one in sums.items() if one.dropped]
    close = closing(covered)
    series = sum_series(covered.answers.values())
    return public.KeySeries(
        **_coverage(covered),
        **key_text(key),
        table=table.name,
        from_ms=from_ms,
        to_ms=to_ms,
        windows=[
            _key_window(table, start, cell, close, partial=start in sums and sums[start].partial)
            for start, cell in series.items()
            if start not in dropped
        ],
        dropped=dropped,
    )


def table_tallies(table: TableSpec, covered: Covered) -> public.TableTallies:
    tallies = sum_tallies(answer.tallies for answer in covered.answers.values())
    return public.TableTallies(
        **_coverage(covered),
        table=table.name,
        records=sum(tallies.values()),
        tallies=tallies,
        partitions=[
            public.PartitionTallies(partition, sum(answer.tallies.values()), answer.tallies)
            for partition, answer in covered.answers.items()
        ],
    )


def partitions(covered: CoveredStatuses) -> public.Partitions:
    missing: Mapping[str, str] = {
        topic if partition < 0 else f"{topic}-{partition}": why for (topic, partition), why in covered.missing.items()
    }
    return public.Partitions(
        complete=not missing,
        missing=list(missing),
        missing_why=dict(missing),
        partitions=[_partition(worker, status) for worker, status in covered.statuses.values()],
    )


def _coverage(covered: Covered) -> _Coverage:
    why = {str(partition): why for partition, why in covered.missing.items()}
    return {
        "complete": covered.complete,
        "missing": list(covered.missing),
        "missing_why": why if covered.count_known else {**why, "topic": "its partition count is unknown"},
        "as_of": [
            public.AsOf(partition, answer.next_offset, answer.stream_time_ms, answer.idle)
            for partition, answer in covered.answers.items()
        ],
    }


def _window(table: TableSpec, one: WindowSum, close: Closing) -> public.Window:
    end_ms = one.start_ms + table.window_ms
    return public.Window(
        start=iso(one.start_ms),
        start_ms=one.start_ms,
        end_ms=end_ms,
        state=close.state(end_ms, table.grace_ms),
        count=one.on_time + one.late,
        on_time=one.on_time,
        late=one.late,
        expired=one.expired,
        partial=one.partial,
        dropped=one.dropped,
    )


def _key_window(table: TableSpec, start_ms: int, cell: CellCount, close: Closing, *, partial: bool) -> public.KeyWindow:
    end_ms = start_ms + table.window_ms
    return public.KeyWindow(
        start=iso(start_ms),
        start_ms=start_ms,
        end_ms=end_ms,
        state=close.state(end_ms, table.grace_ms),
        count=size(cell),
        on_time=cell.on_time,
        late=cell.late,
        partial=partial,
    )


def _key_count(cell: CellCount) -> public.KeyCount:
    return public.KeyCount(**key_text(cell.key), count=size(cell), on_time=cell.on_time, late=cell.late)


def _partition(worker: str, status: PartitionStatus) -> public.Partition:
    return public.Partition(
        topic=status.topic,
        partition=status.partition,
        worker=worker,
        state=status.state,
        next_offset=status.next_offset,
        end_offset=status.end_offset,
        lag=None if status.end_offset is None else max(0, status.end_offset - status.next_offset),
        archive_next_offset=status.archive_next_offset,
        stream_time_ms=status.stream_time_ms,
        checkpoints=status.checkpoints,
        last_checkpoint_age_ms=status.last_checkpoint_age_ms,
    )
