"""Probes of `recount check` on HBase: its Thrift servers, whose tables these are, whether they keep what is put."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from app.check_probes import DEADLINE_S, Finding, Mark, in_thread
from app.claimants import claimants
from app.config import Config
from domain.errors import CorruptRowError, RefusedError, SinkUnavailableError
from sinks.hbase.claim import Claimant, read_owner
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import FAMILY, counts_table, events_table, next_offset_of, version, windows_table

FIX = "start it, or correct sinks.hbase.thrift"
SOCKET_S = 8.0  # a server that goes silent is named before the deadline gives the probe up
FOREVER_S = 2**31 - 1
CHECK_ROW = b"check"
CHECK_COLUMN = f"{FAMILY}:check".encode()

Probe = Callable[[Connection], Iterable[Finding]]


async def probe_hbase(config: Config) -> list[Finding]:
    """Every Thrift server must answer; the tables are looked at through the first one that does."""
    section = config.sinks.hbase
    if section is None:
        return []
    answers = {
        address: _in_time(address, f"HBase at {address}", partial(_server, address)) for address in section.thrift
    }
    findings = [finding for group in await asyncio.gather(*answers.values()) for finding in group]
    up = next((at for at, found in zip(answers, findings, strict=True) if found.mark is Mark.OK), None)
    if up is None:
        return findings
    probes: dict[str, Probe] = {
        f"HBase table {counts_table(one.table)}": partial(_table, one) for one in claimants(config)
    }
    for topic in section.events:
        probes[f"HBase table {events_table(topic)}"] = partial(_events, events_table(topic))
    groups = await asyncio.gather(*(_in_time(up, what, probe) for what, probe in probes.items()))
    return findings + [finding for group in groups for finding in group]


async def _in_time(address: str, what: str, probe: Probe) -> list[Finding]:
    def work() -> list[Finding]:
        pool = Pool(address, timeout_s=SOCKET_S)
        try:
            with pool.connection() as connection:
                return list(probe(connection))
        except SinkUnavailableError as err:
            return [Finding(Mark.UNREACHABLE, f"{what}: {err.reason}", FIX)]
        finally:
            pool.close()

    return await in_thread(work, Finding(Mark.UNREACHABLE, f"{what}: no answer within {DEADLINE_S:g} s", FIX))


def _server(address: str, connection: Connection) -> Iterator[Finding]:
    connection.tables()
    yield Finding(Mark.OK, f"HBase at {address}: answers")


def _events(name: str, connection: Connection) -> Iterator[Finding]:
    found = list(_settings(connection, [name]))
    yield from found or [Finding(Mark.OK, f"HBase table {name}: there")]


def _table(ours: Claimant, connection: Connection) -> Iterator[Finding]:
    """Of one table: the settings of its two HBase tables, its owner, and whether a higher version shows."""
    counts, windows = counts_table(ours.table), windows_table(ours.table)
    found = list(_settings(connection, [counts, windows]))
    yield from found
    if windows.encode() not in connection.tables() or any(one.mark is Mark.WRONG for one in found):
        return
    try:
        owner = read_owner(connection, ours.table)
        if owner is not None:
            ours.check(owner)
    except RefusedError as err:
        yield Finding(Mark.WRONG, f"{err.what}: {err.why}", err.fix)
        return
    except CorruptRowError as err:
        yield Finding(Mark.WRONG, str(err), f"put it right, or drop {counts} and {windows} in HBase")
        return
    whose = "nobody's yet, a worker will claim it" if owner is None else "ours"
    if keeps_higher_version(connection, windows):
        yield Finding(Mark.OK, f"HBase table {counts}: {whose}; a higher version shows over a later put")
    else:
        yield Finding(
            Mark.WRONG,
            f"HBase table {windows}: a lower version put later showed instead of a higher one",
            "a coprocessor or proxy changes timestamps: put them through as they are",
        )


def _settings(connection: Connection, names: list[str]) -> Iterator[Finding]:
    there = connection.tables()
    for name in names:
        if name.encode() not in there:
            yield Finding(Mark.OK, f"HBase table {name}: will be made")
            continue
        family = connection.table(name).families().get(FAMILY.encode())
        if family is None:
            fix = f"drop {name} if nobody needs it; a worker makes it anew"
            yield Finding(Mark.WRONG, f"HBase table {name}: it has no family {FAMILY}", fix)
        elif family["time_to_live"] != FOREVER_S:
            yield Finding(
                Mark.WRONG,
                f"HBase table {name}: it has a time to live of {family['time_to_live']} s; counts are for good",
                f"in the HBase shell: alter '{name}', {{NAME => '{FAMILY}', TTL => 'FOREVER'}}",
            )


def keeps_higher_version(connection: Connection, name: str) -> bool:
    """Put a cell at a version, then at a lower one; both above what earlier checks put, as nothing is deleted."""
    table = connection.table(name)
    before = table.row(CHECK_ROW, [CHECK_COLUMN], include_timestamp=True).get(CHECK_COLUMN)
    offset = 0 if before is None else next_offset_of(before[1]) or 0
    higher = version(offset + 2)
    for timestamp in (higher, higher - 1):
        table.put(CHECK_ROW, {CHECK_COLUMN: b"%d" % timestamp}, timestamp=timestamp)
    value, timestamp = table.row(CHECK_ROW, [CHECK_COLUMN], include_timestamp=True).get(CHECK_COLUMN, (b"", 0))
    # Above ours: another check at the same time.
    return timestamp > higher or (value, timestamp) == (b"%d" % higher, higher)
