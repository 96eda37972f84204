"""From covered answers to the public shapes. Pure; large answers are built off the event loop."""

from __future__ import annotations

from collections.abc import Mapping

from app.web import answers as public
from app.web import parts
from app.web.answers import Source
from app.web.history import PastSeries, PastWindow, Unanswered
from app.web.query import (
    Covered,
    CoveredStatuses,
    Top,
    WindowSum,
    closing,
    stream_time_ms,
    sum_series,
    sum_tallies,
    sum_windows,
)
from app.web.reply import key_text
from domain.spec import TableSpec


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
        **parts.coverage(covered),
        table=table,
        stream_time_ms=stream_time_ms(covered.answers.values()),
        records=sum(tallies.values()),
        tallies=tallies,
    )


def windows(table: TableSpec, covered: Covered, from_ms: int, to_ms: int) -> public.Windows:
    close = closing(covered)
    return public.Windows(
        **parts.coverage(covered),
        table=table.name,
        source=Source.STATE,
        from_ms=from_ms,
        to_ms=to_ms,
        windows=[parts.window(table, one, close) for one in sum_windows(covered.answers.values())],
    )


def window_detail(table: TableSpec, covered: Covered, start_ms: int, top: Top) -> public.WindowDetail:
    sums = sum_windows(covered.answers.values()) or [WindowSum(start_ms)]
    return public.WindowDetail(
        **parts.coverage(covered),
        table=table.name,
        source=Source.STATE,
        window=parts.window(table, sums[0], closing(covered)),
        top=[parts.key_count(cell) for cell in top.cells],
        top_exact=top.exact,
        top_unseen_max=top.unseen_max,
    )


def past_window_detail(table: TableSpec, covered: Covered, start_ms: int, past: PastWindow) -> public.WindowDetail:
    """The window as its certificates have it, its keys from HBase; incomplete where the two don't agree."""
    top = past.top
    known = next(iter(sum_windows(covered.answers.values())), past.certified)
    window = known or WindowSum(start_ms, top.on_time, top.late, top.expired)
    detail = public.WindowDetail(
        **parts.coverage(covered),
        table=table.name,
        source=Source.HBASE,
        hbase_as_of=parts.hbase_as_of(past.frontier),
        window=parts.window(table, window, closing(covered)),
        top=[parts.past_key_count(cell) for cell in top.cells],
        top_exact=True,
        top_unseen_max=0,
    )
    if covered.complete and (top.on_time, top.late) != (window.on_time, window.late):
        detail.complete = False
        detail.missing_why["hbase"] = (
            f"its keys add up to {top.on_time} on time and {top.late} late,"
            f" the certificates to {window.on_time} and {window.late}"
        )
    return detail


def dropped_starts(covered: Covered) -> list[int]:
    """Windows asked for whose keys a partition no longer holds."""
    return [one.start_ms for one in sum_windows(covered.answers.values()) if one.dropped]


def past_starts(covered: Covered) -> list[int]:
    """Those of them that HBase has whole."""
    return [one.start_ms for one in sum_windows(covered.answers.values()) if one.dropped and not one.lost]


def key_series(
    table: TableSpec, covered: Covered, key: bytes, from_ms: int, to_ms: int, past: PastSeries | Unanswered | None
) -> public.KeySeries:
    sums = {one.start_ms: one for one in sum_windows(covered.answers.values())}
    dropped = dropped_starts(covered)
    close = closing(covered)
    rows = {
        start: parts.key_window(table, start, cell, close, partial=start in sums and sums[start].partial)
        for start, cell in sum_series(covered.answers.values()).items()
        if start not in sums or not sums[start].dropped
    }
    if isinstance(past, PastSeries):
        rows |= {
            start: parts.past_key_window(table, start, cell, close, partial=sums[start].partial)
            for start, cell in past.cells.items()
        }
    series = public.KeySeries(
        **parts.coverage(covered),
        **key_text(key),
        table=table.name,
        from_ms=from_ms,
        to_ms=to_ms,
        windows=[rows[start] for start in sorted(rows)],
        dropped=[start for start in dropped if sums[start].lost] if isinstance(past, PastSeries) else dropped,
    )
    if isinstance(past, PastSeries):
        series.hbase_as_of = parts.hbase_as_of(past.frontier)
    elif past is not None:
        series.complete = False
        series.missing_why["hbase"] = past.why
    return series


def table_tallies(table: TableSpec, covered: Covered) -> public.TableTallies:
    tallies = sum_tallies(answer.tallies for answer in covered.answers.values())
    return public.TableTallies(
        **parts.coverage(covered),
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
        partitions=[parts.partition(worker, status) for worker, status in covered.statuses.values()],
    )
