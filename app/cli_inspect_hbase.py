"""`recount inspect --from hbase`: the same questions answered by HBase, without any worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.claimants import claimants
from app.config import Config, load_config, to_specs
from app.web.answers import Source
from app.web.errors import RequestError
from app.web.params import Range, iso, key_bytes, time_ms, window_start
from app.web.reply import key_text
from domain.certificate import Certificate
from domain.errors import ConfigError, DependencyError, SinkUnavailableError
from domain.spec import TableSpec
from sinks.hbase.claim import Claimant
from sinks.hbase.connection import Pool
from sinks.hbase.format import Frontier
from sinks.hbase.reader import HBaseReader, NoSuchTableError
from sinks.hbase.totals import CellTotal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What `recount inspect` was asked, as it was written."""

    table: str | None = None
    window: str | None = None
    key: str | None = None
    since: str | None = None
    until: str | None = None
    top: int = 50


def ask_hbase(config_file: Path, question: Question) -> Json:
    """An answer in the shape of the HTTP API's.

    Raises `ConfigError` for a wrong question or a table nobody put yet, `DependencyError` when HBase doesn't answer,
    `RefusedError` where its tables hold something else's counts.
    """
    config = load_config(config_file)
    section = config.sinks.hbase
    if section is None:
        raise ConfigError("sinks.hbase", "missing", 'add [sinks.hbase] with thrift = ["HOST:PORT"]')
    pool = Pool(*section.thrift)
    try:
        return _first_answer(config, pool, question)
    except SinkUnavailableError as err:
        raise DependencyError(err.sink, err.reason, "start it, or correct sinks.hbase.thrift") from err
    except RequestError as err:
        raise ConfigError(err.what, err.why, err.fix) from err
    except NoSuchTableError as err:
        fix = "its worker makes it; start one, or correct sinks.hbase.thrift"
        raise ConfigError(f"HBase table {err.table}", "doesn't exist", fix) from err
    finally:
        pool.close()


def _first_answer(config: Config, pool: Pool, question: Question) -> Json:
    """Of the first server that gives one."""
    assert config.sinks.hbase is not None
    for left in range(len(config.sinks.hbase.thrift) - 1, -1, -1):
        try:
            if question.table is None:
                return _overview(config, pool)
            return _table(config, pool, question, question.table)
        except SinkUnavailableError:
            if not left:
                raise
    raise AssertionError("unreachable")


def _overview(config: Config, pool: Pool) -> Json:
    return {
        "source": Source.HBASE,
        "tables": [_stored(one, HBaseReader(pool, one.table)) for one in claimants(config)],
    }


def _stored(ours: Claimant, reader: HBaseReader) -> Json:
    try:
        owner, frontier, archive = reader.owner(), reader.frontier(), reader.archive()
    except NoSuchTableError:
        owner, frontier, archive = None, {}, {}
    return {
        "name": ours.table,
        "owner": None if owner is None else msgspec.to_builtins(owner),
        "ours": owner is not None and ours.owns(owner),
        "partitions": [
            {**_at(partition, frontier.get(partition)), "archive_next_offset": archive.get(partition)}
            for partition in sorted({*frontier, *archive})
        ],
    }


def _at(partition: int, one: Frontier | None) -> Json:
    time = None if one is None else one.stream_time
    return {
        "partition": partition,
        "next_offset": None if one is None else one.next_offset,
        "stream_time": None if time is None else iso(time),
        "stream_time_ms": time,
    }


def _table(config: Config, pool: Pool, question: Question, name: str) -> Json:
    claimant = next((one for one in claimants(config) if one.table == name), None)
    if claimant is None:
        known = ", ".join(table.name for table in config.tables)
        raise ConfigError("TABLE", f'"{name}" is in no [[tables]]', f"known: {known}")
    table = next(one for one in to_specs(config)[1] if one.name == name)
    reader = HBaseReader(pool, name)
    owner = reader.owner()
    if owner is not None:
        claimant.check(owner)
    frontier = reader.frontier()
    body: Json = {"source": Source.HBASE, "table": name}
    body["hbase_as_of"] = [_at(partition, one) for partition, one in frontier.items()]
    if question.window is not None:
        return body | _window(reader, table, window_start(question.window, table), question.top)
    since, until = (
        None if text is None else time_ms(option, text)
        for option, text in (("--since", question.since), ("--until", question.until))
    )
    newest = max((one.stream_time for one in frontier.values() if one.stream_time is not None), default=None)
    from_ms, to_ms = Range(since, until).resolve(table, newest)
    body |= {"from_ms": from_ms, "to_ms": to_ms}
    windows = {one.start_ms: one.partitions for one in reader.windows(from_ms, to_ms)}
    if question.key is None:
        return body | {"windows": [_window_row(table, start, of.values()) for start, of in windows.items()]}
    key = key_bytes(question.key.encode("utf-8", "surrogateescape"), table)
    span = range(-(-from_ms // table.window_ms) * table.window_ms, to_ms, table.window_ms)
    return body | {**key_text(key), "windows": _series(reader, table, key, span, windows)}


def _window(reader: HBaseReader, table: TableSpec, start_ms: int, count: int) -> Json:
    certificates = [of for one in reader.windows(start_ms, start_ms + 1) for of in one.partitions.values()]
    top = reader.top(start_ms, count)
    return {
        "window": _window_row(table, start_ms, certificates),
        "keys": top.keys,
        "top": [{**key_text(cell.key), **_counts(cell)} for cell in top.cells],
        "top_exact": True,
        "top_unseen_max": 0,
    }


def _series(
    reader: HBaseReader, table: TableSpec, key: bytes, span: range, windows: Mapping[int, Mapping[int, Certificate]]
) -> list[Json]:
    return [
        {
            **_span(table, start),
            **_counts(cell),
            "partial": any(one.partial for one in windows.get(start, {}).values()),
        }
        for start, cell in reader.series(key, span).items()
    ]


def _window_row(table: TableSpec, start_ms: int, certificates: Iterable[Certificate]) -> Json:
    all_of_them = list(certificates)
    on_time = sum(one.on_time.count for one in all_of_them)
    late = sum(one.late.count for one in all_of_them)
    return {
        **_span(table, start_ms),
        "count": on_time + late,
        "on_time": on_time,
        "late": late,
        "expired": sum(one.expired.count for one in all_of_them),
        "partial": any(one.partial for one in all_of_them),
        "dropped": any(one.dropped for one in all_of_them),
    }


def _span(table: TableSpec, start_ms: int) -> Json:
    return {"start": iso(start_ms), "start_ms": start_ms, "end_ms": start_ms + table.window_ms}


def _counts(cell: CellTotal) -> Json:
    return {"count": cell.count, "on_time": cell.on_time, "late": cell.late, "expired": cell.expired}
