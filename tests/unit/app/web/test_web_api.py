"""What each route answers, from one worker and from several."""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.wire import ASK_DECODER, TalliesAsk, TopAsk
from tests.unit.app.web.fakes import MINUTE, PAIRS, VIEWS, FakePartition, Group, client_of, group

T0 = 1_700_000_040_000
START = "2023-11-14T22:14:00Z"
assert T0 % MINUTE == 0


def two_workers() -> Group:
    """Four partitions on two workers; /a is counted in three of them."""
    return group(
        {
            "http://a": {
                0: FakePartition(50, T0 + 5 * MINUTE, 60, cells={"page_views": {T0: {b"/a": (5, 1), b"/b": (2, 0)}}}),
                1: FakePartition(10, T0 + 3 * MINUTE, cells={"page_views": {T0: {b"/c": (4, 0)}}}),
            },
            "http://b": {
                2: FakePartition(70, T0 + 4 * MINUTE, cells={"page_views": {T0: {b"/a": (3, 0)}}}, expired={T0: 2}),
                3: FakePartition(
                    90,
                    T0 + MINUTE,
                    cells={"page_views": {T0: {b"/a": (1, 0)}, T0 + MINUTE: {b"/d": (1, 0)}}},
                    tallies={"on_time": 2, "malformed": 1},
                ),
            },
        },
        partitions=4,
    )


async def test_any_worker_answers_the_same_for_the_whole_table() -> None:
    workers = two_workers()
    for path in ("/tables/page_views/windows", f"/tables/page_views/windows/{T0}", "/tables/page_views/keys//a"):
        answers = [await workers.json(f"/api/v1{path}", at) for at in ("http://a", "http://b")]
        assert answers[0] == answers[1]
        assert answers[0]["complete"]
        assert answers[0]["missing"] == []


async def test_windows_count_on_time_and_late_together_and_apart() -> None:
    answer = await two_workers().json("/api/v1/tables/page_views/windows")
    first, second = answer["windows"]
    assert first == {
        "start": START,
        "start_ms": T0,
        "end_ms": T0 + MINUTE,
        "state": "open",
        "count": 16,
        "on_time": 15,
        "late": 1,
        "expired": 2,
        "partial": False,
        "dropped": False,
    }
    assert (second["start_ms"], second["count"], second["state"]) == (T0 + MINUTE, 1, "open")
    assert [(a["partition"], a["next_offset"]) for a in answer["as_of"]] == [(0, 50), (1, 10), (2, 70), (3, 90)]
    assert answer["as_of"][3]["stream_time_ms"] == T0 + MINUTE


async def test_an_idle_partition_lets_the_window_close() -> None:
    workers = group(
        {
            "http://a": {
                0: FakePartition(1, T0 + 9 * MINUTE, cells={"page_views": {T0: {b"x": (1, 0)}}}),
                1: FakePartition(),
            }
        },
        partitions=2,
        idle=lambda topic, partition: (topic, partition) == ("clicks", 1),
    )
    answer = await workers.json("/api/v1/tables/page_views/windows")
    assert answer["windows"][0]["state"] == "closed"
    assert [a["idle"] for a in answer["as_of"]] == [False, True]


async def test_the_top_of_a_window_adds_a_key_over_partitions() -> None:
    answer = await two_workers().json(f"/api/v1/tables/page_views/windows/{T0}", top=2)
    assert answer["top"] == [
        {"key": "/a", "count": 10, "on_time": 9, "late": 1},
        {"key": "/c", "count": 4, "on_time": 4, "late": 0},
    ]
    assert answer["top_exact"]
    assert answer["window"]["count"] == 16


async def test_a_window_can_be_named_by_its_time_with_zone() -> None:
    workers = two_workers()
    for start in (START, "2023-11-15T00:14:00%2B02:00"):
        assert (await workers.json(f"/api/v1/tables/page_views/windows/{start}"))["window"]["start_ms"] == T0


async def test_a_window_without_events_has_count_zero() -> None:
    answer = await two_workers().json(f"/api/v1/tables/page_views/windows/{T0 + 2 * MINUTE}")
    assert answer["window"]["count"] == 0
    assert answer["top"] == []


async def test_an_unreachable_owner_makes_the_answer_incomplete_by_name() -> None:
    workers = two_workers()
    del workers.peers.apps["http://b"]
    for path in ("windows", f"windows/{T0}", "keys//a"):
        answer = await workers.json(f"/api/v1/tables/page_views/{path}")
        assert not answer["complete"]
        assert answer["missing"] == [2, 3]
        assert answer["missing_why"] == {"2": "http://b: unreachable", "3": "http://b: unreachable"}
    assert (await workers.json("/api/v1/partitions"))["missing"] == ["clicks-2", "clicks-3"]
    assert not (await workers.json("/api/v1/tallies"))["complete"]


async def test_a_restoring_or_unowned_partition_is_missing_by_name() -> None:
    workers = group({"http://a": {0: FakePartition(state="restoring"), 1: FakePartition()}}, partitions=3)
    answer = await workers.json("/api/v1/tables/page_views")
    assert answer["missing_why"] == {"0": "http://a: not ready (restoring)", "2": "no worker owns it"}


async def test_a_partition_lost_while_it_is_read_is_missing() -> None:
    workers = two_workers()
    view = workers.views["http://b"]

    def revoke(_: int) -> None:
        view.held.pop(2, None)

    view.before_read = revoke
    answer = await workers.json("/api/v1/tables/page_views/windows", from_=T0)
    assert answer["missing"] == [2]
    assert "lost" in answer["missing_why"]["2"]


async def test_an_answer_is_read_again_when_a_checkpoint_lands_in_between() -> None:
    workers = two_workers()
    held = workers.views["http://a"].held[0]

    def checkpoint(partition: int) -> None:
        if partition == 0 and held.next_offset == 50:
            held.next_offset = 51
            held.cells["page_views"][T0][b"/a"] = (6, 1)

    workers.views["http://a"].before_read = checkpoint
    answer = await workers.json("/api/v1/tables/page_views/windows", from_=T0, to=T0 + 1)
    assert answer["as_of"][0]["next_offset"] == 51
    assert answer["windows"][0]["count"] == 17


async def test_of_an_old_and_a_new_owner_the_higher_offset_is_counted_once() -> None:
    stale = FakePartition(10, T0, cells={"page_views": {T0: {b"/a": (1, 0)}}})
    fresh = FakePartition(20, T0, cells={"page_views": {T0: {b"/a": (3, 0)}}})
    workers = group({"http://a": {0: stale}, "http://b": {0: fresh}}, partitions=1)
    for at in ("http://a", "http://b"):
        answer = await workers.json("/api/v1/tables/page_views/keys//a", at)
        assert [w["count"] for w in answer["windows"]] == [3]
        assert answer["as_of"][0]["next_offset"] == 20


async def test_an_asked_worker_never_asks_further() -> None:
    workers = two_workers()
    await workers.json(f"/api/v1/tables/page_views/windows/{T0}")
    assert set(workers.peers.asked) == {"http://b"}


async def test_local_scope_gives_this_workers_own_answers_per_partition() -> None:
    workers = two_workers()
    for path in ("", "/windows", f"/windows/{T0}", "/keys//a"):
        raw = await workers.json(f"/api/v1/tables/page_views{path}", scope="local")
        assert [a["partition"] for a in raw["answers"]] == [0, 1]
    assert [s["partition"] for s in (await workers.json("/api/v1/partitions", scope="local"))["statuses"]] == [0, 1]
    assert workers.peers.asked == []


async def test_a_window_whose_keys_were_dropped_answers_404_with_the_reason() -> None:
    workers = two_workers()
    workers.views["http://b"].held[2].dropped.add(T0)
    error = await workers.error(404, f"/api/v1/tables/page_views/windows/{T0}")
    assert "gone from the state" in error["what"]
    listed = await workers.json("/api/v1/tables/page_views/windows")
    assert listed["windows"][0]["dropped"]
    assert listed["windows"][0]["count"] == 16


async def test_a_keys_series_names_dropped_windows_instead_of_a_smaller_sum() -> None:
    workers = two_workers()
    workers.views["http://b"].held[2].dropped.add(T0)
    answer = await workers.json("/api/v1/tables/page_views/keys//a")
    assert answer["windows"] == []
    assert answer["dropped"] == [T0]


async def test_a_keys_window_is_partial_where_any_partition_was_cut() -> None:
    workers = two_workers()
    workers.views["http://a"].held[1].partial.add(T0)
    answer = await workers.json("/api/v1/tables/page_views/keys//a")
    assert [(w["count"], w["partial"]) for w in answer["windows"]] == [(10, True)]


@given(st.binary(max_size=12).filter(lambda key: key not in {b".", b".."}))
async def test_every_key_comes_back_through_the_path_byte_for_byte(key: bytes) -> None:
    workers = group({"http://a": {0: FakePartition(cells={"page_views": {0: {key: (2, 1)}}})}}, partitions=1)
    async with client_of(workers.apps["http://a"]) as client:
        by_path = (await client.get("/api/v1/tables/page_views/keys/" + quote(key, safe=""))).json()
        encoded = base64.b64encode(key).decode()
        by_base64 = (await client.get("/api/v1/tables/page_views/keys/", params={"key_base64": encoded})).json()
    assert by_path == by_base64
    assert by_path["windows"][0]["count"] == 3
    shown = by_path["key"].encode() if "key" in by_path else base64.b64decode(by_path["key_base64"])
    assert shown == key


async def test_a_slash_in_a_key_needs_no_encoding() -> None:
    workers = two_workers()
    assert (await workers.json("/api/v1/tables/page_views/keys//a"))["key"] == "/a"
    assert (await workers.json("/api/v1/tables/page_views/keys/keys/x/"))["key"] == "keys/x/"


async def test_a_line_feed_in_a_key_is_part_of_it() -> None:
    cells = {"page_views": {0: {b"a\nb\n": (1, 0)}}}
    workers = group({"http://a": {0: FakePartition(cells=cells)}}, partitions=1)
    answer = await workers.json("/api/v1/tables/page_views/keys/a%0Ab%0A")
    assert [w["count"] for w in answer["windows"]] == [1]


async def test_a_key_of_several_fields_may_be_spelled_as_any_json() -> None:
    cells = {PAIRS.name: {0: {'["é",7]'.encode(): (1, 0)}}}
    workers = group({"http://a": {0: FakePartition(cells=cells)}}, partitions=1)
    for spelled in ('["é",7]', r'[ "\u00e9", 7 ]'):
        answer = await workers.json(f"/api/v1/tables/pairs/keys/{quote(spelled)}")
        assert answer["key"] == '["é",7]'
        assert answer["windows"][0]["count"] == 1


@pytest.mark.parametrize(
    "key", ["x", '["a"]', '["a",true]', '["a",1.0]', '{"a":1}', '["\\ud800",1]', "[" * 4000, "%ff", "[1"]
)
async def test_a_key_that_cannot_exist_in_a_table_of_several_fields_is_refused(key: str) -> None:
    error = await two_workers().error(400, f"/api/v1/tables/pairs/keys/{key if key == '%ff' else quote(key, safe='')}")
    assert "string, int" in error["why"]


async def test_without_a_range_the_newest_windows_are_shown() -> None:
    last = T0 + 500 * MINUTE
    cells = {n * MINUTE + T0: {b"k": (1, 0)} for n in range(501)}
    workers = group({"http://a": {0: FakePartition(9, last, cells={"page_views": cells})}}, partitions=1)
    answer = await workers.json("/api/v1/tables/page_views/windows")
    assert len(answer["windows"]) == 100
    assert answer["windows"][-1]["start_ms"] == last
    since = await workers.json("/api/v1/tables/page_views/windows", from_=last - MINUTE)
    assert [w["start_ms"] for w in since["windows"]] == [last - MINUTE, last]


async def test_tables_are_listed_with_what_they_count() -> None:
    tables = (await two_workers().json("/api/v1/tables"))["tables"]
    assert [t["name"] for t in tables] == ["page_views", "pairs"]
    assert tables[1]["key"] == [{"field": "page", "type": "string"}, {"field": "user", "type": "int"}]
    assert tables[0]["partitions"] == 4
    assert tables[0]["retention_ms"] == VIEWS.retention_ms


async def test_tallies_add_up_per_partition_and_table() -> None:
    workers = two_workers()
    workers.views["http://a"].held[0].tallies = {"on_time": 5, "late": 1}
    answer = await workers.json("/api/v1/tallies", table="page_views")
    (table,) = answer["tables"]
    assert table["tallies"] == {"late": 1, "malformed": 1, "on_time": 7}
    assert table["records"] == 9
    assert [(p["partition"], p["records"]) for p in table["partitions"]] == [(0, 6), (1, 0), (2, 0), (3, 3)]
    detail = await workers.json("/api/v1/tables/page_views")
    assert (detail["records"], detail["stream_time_ms"]) == (9, T0 + 5 * MINUTE)
    assert len((await workers.json("/api/v1/tallies"))["tables"]) == 2


async def test_partitions_show_their_worker_and_lag() -> None:
    answer = await two_workers().json("/api/v1/partitions", at="http://b")
    assert answer["complete"]
    shown = [(p["partition"], p["worker"], p["lag"]) for p in answer["partitions"]]
    assert shown == [(0, "http://a", 10), (1, "http://a", 90), (2, "http://b", 30), (3, "http://b", 10)]


async def test_an_unknown_partition_count_is_incomplete_with_the_reason() -> None:
    workers = two_workers()
    workers.membership["http://a"].counts.clear()
    answer = await workers.json("/api/v1/tables/page_views")
    assert not answer["complete"]
    assert "unknown" in answer["missing_why"]["topic"]
    assert (await workers.json("/api/v1/partitions"))["missing"] == ["clicks"]


async def test_ready_says_why_not_and_health_does_not_care() -> None:
    workers = group({"http://a": {}}, partitions=1, ready=lambda: "restoring clicks-0")
    response = await workers.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "not ready", "reason": "restoring clicks-0"}
    assert (await workers.json("/healthz")) == {"status": "ok"}
    assert (await two_workers().json("/readyz")) == {"status": "ready"}


async def test_questions_between_workers_survive_the_wire() -> None:
    for ask in (TalliesAsk("t"), TopAsk("t", 5, 3, [b"\xff"])):
        assert ASK_DECODER.decode(msgspec.msgpack.encode(ask)) == ask
