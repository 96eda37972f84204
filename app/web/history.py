"""Windows gone from the state, as HBase still holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.web.errors import RequestError
from app.web.query import Covered, WindowSum, sum_windows
from domain.errors import CorruptRowError, RefusedError, SinkUnavailableError
from domain.spec import TableSpec
from sinks.hbase.format import Frontier
from sinks.hbase.reader import NoSuchTableError, WindowTop
from sinks.hbase.totals import CellTotal


@dataclass(frozen=True, slots=True)
class PastWindow:
    """A window's largest keys, its certificates' sum (None: no certificate), true at or after `frontier`."""

    frontier: Mapping[int, Frontier]
    top: WindowTop
    certified: WindowSum | None


@dataclass(frozen=True, slots=True)
class PastSeries:
    """One key's cells by window start, ascending, true at or after `frontier`."""

    frontier: Mapping[int, Frontier]
    cells: Mapping[int, CellTotal]


class History(Protocol):
    """What HBase holds. Answers within a deadline of its own.

    Raises `NoSuchTableError`, `SinkUnavailableError` (the deadline too), `RefusedError` where the tables are
    another's, `CorruptRowError`.
    """

    async def window(self, table: str, start_ms: int, count: int) -> PastWindow: ...

    async def series(self, table: str, key: bytes, starts: Sequence[int]) -> PastSeries: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why windows gone from the state can't be told."""

    why: str


def gone(table: TableSpec, covered: Covered, start_ms: int) -> bool:
    """Whether the state can't tell a window's keys.

    They were dropped; or no partition knows the window, and it is old enough for that to mean nothing.
    """
    windows = sum_windows(covered.answers.values())
    if windows:
        return any(one.dropped for one in windows)
    times = (answer.stream_time_ms for answer in covered.answers.values())
    expired = start_ms + table.window_ms + table.retention_ms
    return covered.complete and any(time is not None and time >= expired for time in times)


async def past_window(history: History | None, table: TableSpec, start_ms: int, count: int) -> PastWindow | None:
    """None: HBase has nothing of it. Raises `RequestError` when HBase can't be asked."""
    if history is None:
        return None
    try:
        found = await history.window(table.name, start_ms, count)
    except NoSuchTableError:
        return None
    except SinkUnavailableError as err:
        raise RequestError(
            503,
            f"the keys of window {start_ms} are in HBase alone, which can't be asked",
            f"{err.sink}: {err.reason}",
            "ask again; look at HBase and its Thrift server, or read it without a worker: recount inspect --from hbase",
        ) from err
    except RefusedError as err:
        raise RequestError(503, f"{err.what} can't tell the keys of window {start_ms}", err.why, err.fix) from err
    except CorruptRowError as err:
        raise RequestError(
            500, f"the keys of window {start_ms} are damaged in HBase", str(err), "put that row right in HBase"
        ) from err
    return found if found.top.keys else None


async def past_series(
    history: History | None, table: TableSpec, key: bytes, starts: Sequence[int]
) -> PastSeries | Unanswered | None:
    """None: nothing to ask, or nobody."""
    if history is None or not starts:
        return None
    try:
        return await history.series(table.name, key, starts)
    except NoSuchTableError:
        return None
    except (SinkUnavailableError, RefusedError, CorruptRowError) as err:
        return Unanswered(str(err))


def not_found(table: TableSpec, start_ms: int, *, configured: bool) -> RequestError:
    """The keys are neither in the state nor in HBase."""
    why = f"stream time passed its end by the retention of {table.retention_ms} ms"
    fix = f"its totals are still in /api/v1/tables/{table.name}/windows?from={start_ms}"
    if configured:
        return RequestError(
            404, f"the keys of window {start_ms} are gone from the state", f"{why}; HBase has none", fix
        )
    return RequestError(
        404,
        f"the keys of window {start_ms} are gone from the state",
        f"{why}; no [sinks.hbase] keeps them",
        f"{fix}; add [sinks.hbase] to keep the keys of windows to come",
    )
