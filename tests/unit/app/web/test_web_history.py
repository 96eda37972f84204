"""Windows gone from the state: asked of HBase, marked so, and never a silently smaller sum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.web.history import PastSeries, PastWindow
from app.web.query import WindowSum
from domain.errors import CorruptRowError, RefusedError, SinkUnavailableError
from sinks.hbase.format import Frontier
from sinks.hbase.reader import NoSuchTableError, WindowTop
from sinks.hbase.totals import CellTotal
from tests.unit.app.web.fakes import MINUTE, VIEWS, FakePartition, Group, group

T0 = 1_700_000_040_000
OLD = T0 - 60 * MINUTE
ASKED_TOP = f"/api/v1/tables/page_views/windows/{T0}"
ASKED_KEY = "/api/v1/tables/page_views/keys//a"
RANGE: dict[str, Any] = {"from_": T0, "to": T0 + 9 * MINUTE}


@dataclass
class FakeHistory:
    """Cells by window and key; `failure` is raised instead of any answer."""

    cells: dict[int, list[CellTotal]] = field(default_factory=dict)
    certified: WindowSum | None = None
    failure: Exception | None = None
    asked: list[Any] = field(default_factory=list)
    closed: bool = False

    async def window(self, table: str, start_ms: int, count: int) -> PastWindow:
        self.asked.append((table, start_ms, count))
        if self.failure:
            raise self.failure
        cells = sorted(self.cells.get(start_ms, []), key=lambda one: -one.count)
        sums = [sum(getattr(one, name) for one in cells) for name in ("on_time", "late", "expired")]
        return PastWindow({1: Frontier(80, T0)}, WindowTop(cells[:count], len(cells), *sums), self.certified)

    async def series(self, table: str, key: bytes, starts: Sequence[int]) -> PastSeries:
        self.asked.append((table, key, list(starts)))
        if self.failure:
            raise self.failure
        found = {start: one for start in starts for one in self.cells.get(start, []) if one.key == key}
        return PastSeries({1: Frontier(80, None)}, found)

    async def close(self) -> None:
        self.closed = True


def workers(history: FakeHistory | None, **partition: Any) -> Group:
    """One partition, its window at T0 dropped with 5 on time and 2 late; the next window still in the state."""
    cells = {T0: {b"/a": (4, 1), b"/b": (1, 1)}, T0 + MINUTE: {b"/a": (6, 0)}}
    held = FakePartition(100, T0 + 20 * MINUTE, cells={"page_views": cells}, dropped={T0}, **partition)
    return group({"http://a": {0: held}}, partitions=1, history=history)


def gone_from_state() -> FakeHistory:
    return FakeHistory({T0: [CellTotal(b"/a", 4, 1, 3), CellTotal(b"\xff", 1, 1, 0)]})


async def test_a_dropped_window_is_answered_from_hbase() -> None:
    answer = await workers(history := gone_from_state()).json(ASKED_TOP, top=2)
    assert answer["source"] == "hbase"
    assert answer["hbase_as_of"] == [{"partition": 1, "next_offset": 80, "stream_time_ms": T0}]
    assert answer["top"] == [
        {"key": "/a", "count": 8, "on_time": 4, "late": 1, "expired": 3},
        {"key_base64": "/w==", "count": 2, "on_time": 1, "late": 1, "expired": 0},
    ]
    window = answer["window"]
    assert (window["count"], window["on_time"], window["late"], window["dropped"]) == (7, 5, 2, True)
    assert (answer["complete"], answer["top_exact"]) == (True, True)
    assert history.asked == [("page_views", T0, 2)]


async def test_what_is_in_the_state_is_never_asked_of_hbase() -> None:
    answer = await workers(history := gone_from_state()).json(f"/api/v1/tables/page_views/windows/{T0 + MINUTE}")
    assert (answer["source"], answer["top"][0]["count"]) == ("state", 6)
    assert "hbase_as_of" not in answer
    assert "expired" not in answer["top"][0]
    assert history.asked == []


async def test_keys_that_add_up_to_another_sum_than_the_certificates_make_the_answer_incomplete() -> None:
    history = FakeHistory({T0: [CellTotal(b"/a", 4, 1, 0)]})
    answer = await workers(history).json(ASKED_TOP)
    assert not answer["complete"]
    assert answer["missing_why"] == {"hbase": "its keys add up to 4 on time and 1 late, the certificates to 5 and 2"}
    assert answer["window"]["count"] == 7


@pytest.mark.parametrize("history", [FakeHistory(), FakeHistory(failure=NoSuchTableError("recount_page_views"))])
async def test_a_dropped_window_of_which_hbase_has_nothing_is_404(history: FakeHistory) -> None:
    error = await workers(history).error(404, ASKED_TOP)
    assert "gone from the state" in error["what"]
    assert "HBase has none" in error["why"]
    assert f"windows?from={T0}" in error["fix"]


async def test_without_hbase_a_dropped_window_is_404_with_a_hint() -> None:
    error = await workers(None).error(404, ASKED_TOP)
    assert "[sinks.hbase]" in error["why"]
    assert "add [sinks.hbase]" in error["fix"]
    assert f"windows?from={T0}" in error["fix"]


@pytest.mark.parametrize(
    ("failure", "status", "text"),
    [
        (SinkUnavailableError("HBase at h:9", "connection refused"), 503, "HBase at h:9: connection refused"),
        (RefusedError("HBase table recount_page_views", "it holds other counts", "drop it"), 503, "other counts"),
        (CorruptRowError("row b'x' is short"), 500, "row b'x' is short"),
    ],
)
async def test_hbase_that_cannot_answer_is_told_from_hbase_without_the_window(
    failure: Exception, status: int, text: str
) -> None:
    error = await workers(FakeHistory(failure=failure)).error(status, ASKED_TOP)
    assert text in error["why"]
    assert error["fix"]


@pytest.mark.parametrize("partial", [set(), {T0}])
async def test_a_series_joins_state_and_hbase_each_row_with_its_source(partial: set[int]) -> None:
    answer = await workers(history := gone_from_state(), partial=partial).json(ASKED_KEY, **RANGE)
    first, second = answer["windows"]
    assert (first["source"], first["start_ms"], first["count"], first["expired"]) == ("hbase", T0, 8, 3)
    assert first["partial"] == (T0 in partial)
    assert (second["source"], second["start_ms"], second["count"]) == ("state", T0 + MINUTE, 6)
    assert "expired" not in second
    assert answer["dropped"] == []
    assert answer["hbase_as_of"] == [{"partition": 1, "next_offset": 80, "stream_time_ms": None}]
    assert history.asked == [("page_views", b"/a", [T0])]


async def test_a_series_does_not_take_from_hbase_what_it_may_have_in_part() -> None:
    answer = await workers(history := gone_from_state(), lost={T0}).json(ASKED_KEY, **RANGE)
    assert [one["start_ms"] for one in answer["windows"]] == [T0 + MINUTE]
    assert answer["dropped"] == [T0]
    assert history.asked == []


async def test_a_series_without_dropped_windows_asks_nobody() -> None:
    answer = await workers(history := gone_from_state()).json(ASKED_KEY, from_=T0 + MINUTE, to=T0 + 5 * MINUTE)
    assert [one["source"] for one in answer["windows"]] == ["state"]
    assert "hbase_as_of" not in answer
    assert history.asked == []


@pytest.mark.parametrize("failure", [SinkUnavailableError("HBase", "no answer within 5 s"), CorruptRowError("short")])
async def test_a_series_says_which_windows_hbase_could_not_tell(failure: Exception) -> None:
    answer = await workers(FakeHistory(failure=failure)).json(ASKED_KEY, **RANGE)
    assert [one["start_ms"] for one in answer["windows"]] == [T0 + MINUTE]
    assert answer["dropped"] == [T0]
    assert (answer["complete"], answer["missing_why"]) == (False, {"hbase": str(failure)})


async def test_a_series_of_a_table_that_was_never_put_names_its_dropped_windows() -> None:
    for history in (None, FakeHistory(failure=NoSuchTableError("recount_page_views"))):
        answer = await workers(history).json(ASKED_KEY, **RANGE)
        assert (answer["dropped"], answer["complete"]) == ([T0], True)


async def test_a_window_no_partition_knows_is_asked_of_hbase_once_it_is_old_enough() -> None:
    history = FakeHistory({OLD: [CellTotal(b"x", 3, 0, 0)]}, certified=WindowSum(OLD, 3, 0, 9, partial=True))
    answer = await workers(history).json(f"/api/v1/tables/page_views/windows/{OLD}")
    assert (answer["source"], answer["top"][0]["key"]) == ("hbase", "x")
    assert (answer["window"]["count"], answer["window"]["expired"], answer["window"]["partial"]) == (3, 9, True)
    assert answer["complete"]


async def test_a_window_too_young_to_be_gone_has_count_zero_and_nobody_is_asked() -> None:
    history = FakeHistory(failure=SinkUnavailableError("HBase", "away"))
    young = T0 + 20 * MINUTE - VIEWS.retention_ms
    answer = await workers(history).json(f"/api/v1/tables/page_views/windows/{young}")
    assert (answer["source"], answer["window"]["count"], answer["top"]) == ("state", 0, [])
    assert history.asked == []
    await workers(history).error(503, f"/api/v1/tables/page_views/windows/{young - MINUTE}")


async def test_an_old_window_nobody_knows_not_even_hbase_has_count_zero() -> None:
    answer = await workers(FakeHistory()).json(f"/api/v1/tables/page_views/windows/{OLD}")
    assert (answer["source"], answer["window"]["count"]) == ("state", 0)


async def test_while_a_partition_is_missing_a_window_nobody_knows_may_still_be_its() -> None:
    held = FakePartition(100, T0 + 20 * MINUTE)
    history = FakeHistory({OLD: [CellTotal(b"x", 3, 0, 0)]})
    workers = group({"http://a": {0: held}}, partitions=2, history=history)
    answer = await workers.json(f"/api/v1/tables/page_views/windows/{OLD}")
    assert (answer["source"], answer["complete"], history.asked) == ("state", False, [])


@pytest.mark.parametrize("path", [ASKED_TOP, ASKED_KEY])
async def test_scope_local_is_this_workers_state_alone(path: str) -> None:
    history = gone_from_state()
    answer = await workers(history).json(path, scope="local")
    assert answer["answers"][0]["windows"][0]["dropped"]
    assert history.asked == []


async def test_the_windows_of_a_range_are_the_states() -> None:
    answer = await workers(history := gone_from_state()).json("/api/v1/tables/page_views/windows")
    assert answer["source"] == "state"
    assert [one["dropped"] for one in answer["windows"]] == [True, False]
    assert history.asked == []


async def test_partitions_tell_how_far_hbase_is_behind() -> None:
    def shown(**positions: int) -> Callable[[], Any]:
        return lambda: workers(None, **positions).json("/api/v1/partitions")

    (one,) = (await shown()())["partitions"]
    assert (one["hbase_next_offset"], one["hbase_lag"], one["events_next_offset"]) == (None, None, None)
    (one,) = (await shown(hbase_next_offset=70, events_next_offset=90)())["partitions"]
    assert (one["hbase_next_offset"], one["hbase_lag"], one["events_next_offset"]) == (70, 30, 90)
    (one,) = (await shown(hbase_next_offset=110)())["partitions"]
    assert one["hbase_lag"] == 0


async def test_the_app_closes_the_history() -> None:
    history = FakeHistory()
    app = workers(history).apps["http://a"]
    async with app.router.lifespan_context(app):
        assert not history.closed
    assert history.closed
