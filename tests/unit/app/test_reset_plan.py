"""Which tables a reset takes, what it refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import reset_plan
from app.reset_plan import Plan, others_of
from app.transport.members import Member, refuse_members
from domain.errors import ConfigError, RefusedError
from domain.progress import StateProgress
from tables.reset import Holding, TableSize
from tests.unit.app.configs import load

CONFIG = load(
    """
[app]
id = "clicks"
[[topics]]
name = "clicks"
event_time = { format = "kafka" }
[[topics]]
name = "orders"
event_time = { format = "kafka" }
[[tables]]
name = "views"
topic = "clicks"
key = ["page"]
[[tables]]
name = "visits"
topic = "clicks"
key = ["user"]
[[tables]]
name = "sales"
topic = "orders"
key = ["item"]
"""
)


def size(cells: int = 3, next_offset: int = 9) -> TableSize:
    return TableSize(cells, 1, StateProgress(state_id="s", fingerprint="f", start=0, next_offset=next_offset))


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "app": "clicks",
        "topic": "clicks",
        "tables": ("views",),
        "whole": False,
        "changelog": True,
        "holdings": {0: Holding({"views": size(1234), "visits": size()}, {"archive": 5}), 1: Holding()},
        "offsets": {},
    }
    return Plan(**values | changes)  # type: ignore[arg-type]


def test_finals_that_will_be_there_twice_are_told_of() -> None:
    assert [one for one in others_of(plan(finals=("f",))) if "finals" in one] == [
        "finals topic f: stays, and gets every final of these windows again; empty it, or name another one"
    ]


def test_a_configured_table_is_where_it_is_configured() -> None:
    assert reset_plan.topic_of(CONFIG, "sales", None) == "orders"
    assert reset_plan.topic_of(CONFIG, "gone", None) is None
    assert reset_plan.topic_of(CONFIG, "gone", "old") == "old"
    with pytest.raises(ConfigError, match=r'--topic: "sales" counts "orders"'):
        reset_plan.topic_of(CONFIG, "sales", "clicks")


def test_a_table_configured_no_more_is_found_by_its_rows() -> None:
    found = {"clicks": {0: Holding({"views": size()})}, "orders": {0: Holding({"gone": size()})}}
    assert reset_plan.found_in("gone", found) == "orders"
    with pytest.raises(ConfigError, match=r"known: gone, views; .* name it with --topic"):
        reset_plan.found_in("never", found)
    with pytest.raises(ConfigError, match="add --topic: clicks, orders"):
        reset_plan.found_in("gone", found | {"clicks": {0: Holding({"gone": size()})}})


def test_a_whole_topic_is_all_its_tables_configured_or_found() -> None:
    assert reset_plan.tables_of(CONFIG, "clicks", {0: Holding({"gone": size()})}) == ("gone", "views", "visits")
    assert reset_plan.tables_of(CONFIG, "orders", {}) == ("sales",)


def test_a_topic_must_be_configured_or_have_a_changelog() -> None:
    reset_plan.refuse_unknown_topic(CONFIG, "clicks", [])
    reset_plan.refuse_unknown_topic(CONFIG, "old", ["clicks-old-changelog"])
    with pytest.raises(ConfigError, match="known: clicks, orders"):
        reset_plan.refuse_unknown_topic(CONFIG, "old", ["other-old-changelog"])


def test_one_table_of_a_lost_topic_is_not_reset_alone() -> None:
    lost = {0: Holding({"views": size()}), 1: Holding()}
    with pytest.raises(RefusedError, match=r"state of clicks-1 is lost.*visits.*recount reset --topic clicks"):
        reset_plan.refuse_lost(CONFIG, "clicks", "views", lost, {0: 5, 1: 7})
    with pytest.raises(RefusedError, match="clicks-2"):
        reset_plan.refuse_lost(CONFIG, "clicks", "views", {}, {2: 7})
    reset_plan.refuse_lost(CONFIG, "clicks", "views", lost, {0: 5, 1: 0})
    reset_plan.refuse_lost(CONFIG, "orders", "sales", {}, {0: 5})  # the only one


def test_group_offsets_go_where_nothing_is_left() -> None:
    holdings = {
        0: Holding({"views": size()}),
        1: Holding({"views": size(), "visits": size()}),
        2: Holding({"views": size()}, {"archive": 4}),
    }
    offsets = {0: 5, 1: 6, 2: 7, 3: 8, 4: 0}
    assert reset_plan.offsets_going(["views"], holdings, offsets, whole=False) == {0: 5, 3: 8}
    assert reset_plan.offsets_going(["views"], holdings, offsets, whole=True) == {0: 5, 1: 6, 2: 7, 3: 8}


def test_what_goes_is_listed_and_what_stays_is_named() -> None:
    one = plan(hbase=("recount_views",), folders=(Path("/d/clicks-0"),), offsets={0: 5}, archive="/a/clicks")
    assert list(reset_plan.rows_of(one)) == [("clicks-0", "views", "1,234", "1", "9")]
    assert list(reset_plan.others_of(one)) == [
        "HBase table recount_views: dropped",
        f"local state /d/clicks-0: removed ({reset_plan.ELSEWHERE})",
        "archive /a/clicks: moved aside to /a/clicks.<time>, nothing of it is deleted",
        "the group's offsets of clicks-0: set to 0",
    ]
    assert reset_plan.staying_of(one) == "untouched: visits, the archive"
    whole = plan(whole=True, tables=("views", "visits"))
    assert list(reset_plan.others_of(whole)) == [
        "changelog clicks-clicks-changelog: deleted, with the progress of archive"
    ]
    assert reset_plan.staying_of(whole) == ""


def test_a_plan_without_anything_to_take_is_empty() -> None:
    assert plan(tables=("never",)).empty
    assert plan(whole=True, changelog=False, holdings={}).empty
    assert not plan().empty
    assert not plan(whole=True, holdings={}).empty
    assert not plan(tables=("never",), hbase=("recount_never",)).empty
    assert not plan(tables=("never",), offsets={0: 1}).empty


def test_members_are_named_by_instance() -> None:
    refuse_members("clicks", [])
    with pytest.raises(RefusedError, match=r"client other at h, instance w1 at 10.0.0.7.*Stop every worker"):
        refuse_members("clicks", [Member("recount-w1", "/10.0.0.7"), Member("other", "h")])
