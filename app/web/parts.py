"""Pieces that several public shapes share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from app.web import answers as public
from app.web.answers import Source
from app.web.params import iso
from app.web.query import Closing, Covered, WindowSum, size
from app.web.reply import key_text
from domain.spec import TableSpec
from sinks.hbase.format import Frontier
from sinks.hbase.totals import CellTotal
from tables.view import CellCount, PartitionStatus


class CoverageFields(TypedDict):
    complete: bool
    missing: list[int]
    missing_why: dict[str, str]
    as_of: list[public.AsOf]


def coverage(covered: Covered) -> CoverageFields:
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


def window(table: TableSpec, one: WindowSum, close: Closing) -> public.Window:
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


def hbase_as_of(frontier: Mapping[int, Frontier]) -> list[public.HBaseAsOf]:
    return [public.HBaseAsOf(partition, one.next_offset, one.stream_time) for partition, one in frontier.items()]


def key_window(table: TableSpec, start_ms: int, cell: CellCount, close: Closing, *, partial: bool) -> public.KeyWindow:
    end_ms = start_ms + table.window_ms
    return public.KeyWindow(
        source=Source.STATE,
        start=iso(start_ms),
        start_ms=start_ms,
        end_ms=end_ms,
        state=close.state(end_ms, table.grace_ms),
        count=size(cell),
        on_time=cell.on_time,
        late=cell.late,
        partial=partial,
    )


def past_key_window(
    table: TableSpec, start_ms: int, cell: CellTotal, close: Closing, *, partial: bool
) -> public.KeyWindow:
    state = CellCount(cell.key, cell.on_time, cell.late)
    window = key_window(table, start_ms, state, close, partial=partial)
    window.source, window.count, window.expired = Source.HBASE, cell.count, cell.expired
    return window


def past_key_count(cell: CellTotal) -> public.KeyCount:
    return public.KeyCount(
        **key_text(cell.key), count=cell.count, on_time=cell.on_time, late=cell.late, expired=cell.expired
    )


def key_count(cell: CellCount) -> public.KeyCount:
    return public.KeyCount(**key_text(cell.key), count=size(cell), on_time=cell.on_time, late=cell.late)


def partition(worker: str, status: PartitionStatus) -> public.Partition:
    behind = status.hbase_next_offset
    return public.Partition(
        topic=status.topic,
        partition=status.partition,
        worker=worker,
        state=status.state,
        next_offset=status.next_offset,
        end_offset=status.end_offset,
        lag=None if status.end_offset is None else max(0, status.end_offset - status.next_offset),
        archive_next_offset=status.archive_next_offset,
        hbase_next_offset=behind,
        hbase_lag=None if behind is None else max(0, status.next_offset - behind),
        events_next_offset=status.events_next_offset,
        stream_time_ms=status.stream_time_ms,
        checkpoints=status.checkpoints,
        last_checkpoint_age_ms=status.last_checkpoint_age_ms,
    )
