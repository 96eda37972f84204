"""The fingerprint covers every input of the counting function, and nothing else."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from domain import spec
from domain.spec import EventTime, KeyField, KeyType, TableSpec, TimeFormat, TopicSpec, WhereRule, fingerprint

TOPIC = TopicSpec("clicks", EventTime(TimeFormat.EPOCH_MS, "ts"))
TABLE = TableSpec(
    "views",
    "clicks",
    (KeyField("page"), KeyField(None), KeyField("n", KeyType.INT)),
    where=(WhereRule("country", allowed=("CN", 1)), WhereRule("bot", exists=False)),
    dedup="id",
    start_ms=1_700_000_000_000,
    finals_topic="views-final",
)
TOPIC_CHANGES: list[dict[str, Any]] = [
    {"name": "other"},
    {"format": "text"},
    {"event_time": EventTime(TimeFormat.EPOCH_S, "ts")},
    {"event_time": EventTime(TimeFormat.EPOCH_MS, "t")},
    {"max_future_ms": 1},
    {"max_past_ms": 1},
]
TABLE_CHANGES: list[dict[str, Any]] = [
    {"key": (KeyField("page"), KeyField("n", KeyType.INT), KeyField(None))},
    {"key": (KeyField("page"), KeyField(None))},
    {"key": (KeyField("page"), KeyField(None), KeyField("n", KeyType.BOOL))},
    {"key": (KeyField("page"), KeyField(""), KeyField("n", KeyType.INT))},
    {"where": ()},
    {"where": (WhereRule("country", allowed=("CN",)), WhereRule("bot", exists=False))},
    {"where": (WhereRule("country", allowed=("CN", True)), WhereRule("bot", exists=False))},
    {"where": (WhereRule("country", allowed=("CN", 1.0)), WhereRule("bot", exists=False))},
    {"where": (WhereRule("country", allowed=("CN", "1")), WhereRule("bot", exists=False))},
    {"where": (WhereRule("land", allowed=("CN", 1)), WhereRule("bot", exists=False))},
    {"where": (WhereRule("country", allowed=("CN", 1)), WhereRule("bot", exists=True))},
    {"where": (WhereRule("country", allowed=("CN", 1)), WhereRule("bot"))},
    {"where": (WhereRule("country", allowed=()), WhereRule("bot", exists=False))},
    {"window_ms": 1},
    {"grace_ms": 1},
    {"retention_ms": 1},
    {"dedup": None},
    {"dedup": "uuid"},
    {"start_ms": None},
    {"start_ms": 0},
]
NO_INPUTS = {"archive_window_ms": 60_000}, {"name": "clicks_per_page", "finals_topic": None}


def test_the_fingerprint_of_a_spec_never_changes() -> None:
    assert fingerprint(TOPIC, TABLE) == "dbccbcd5d1d1a63f"


def test_every_input_changes_the_fingerprint_in_its_own_way() -> None:
    prints = [fingerprint(TOPIC, TABLE)]
    prints += [fingerprint(replace(TOPIC, **change), TABLE) for change in TOPIC_CHANGES]
    prints += [fingerprint(TOPIC, replace(TABLE, **change)) for change in TABLE_CHANGES]
    assert len(set(prints)) == len(prints)


def test_what_does_not_change_counts_does_not_change_the_fingerprint() -> None:
    topic, table = NO_INPUTS
    assert fingerprint(replace(TOPIC, **topic), replace(TABLE, **table)) == fingerprint(TOPIC, TABLE)  # type: ignore[arg-type]


def test_every_field_of_a_spec_is_known_to_be_an_input_or_not() -> None:
    inputs = {name for change in (*TOPIC_CHANGES, *NO_INPUTS[:1]) for name in change}
    assert inputs == {one.name for one in fields(TopicSpec)}
    inputs = {name for change in (*TABLE_CHANGES, *NO_INPUTS[1:]) for name in change}
    assert inputs | {"topic"} == {one.name for one in fields(TableSpec)}


def test_the_fold_version_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(TOPIC, TABLE)
    monkeypatch.setattr(spec, "FOLD_VERSION", spec.FOLD_VERSION + 1)
    assert fingerprint(TOPIC, TABLE) != before


def test_limits_are_those_of_the_specification() -> None:
    from tests.spec import oracle

    assert (oracle.KEY_BYTES_MAX, oracle.NESTING_MAX) == (spec.KEY_BYTES_MAX, spec.NESTING_MAX)
    assert (oracle.TIME_MIN, oracle.TIME_MAX) == (spec.TIME_MIN_MS, spec.TIME_END_MS)
    defaults = {name: oracle.duration_ms(text) for name, text in oracle.DEFAULTS.items()}
    table = TableSpec("t", "c", ())
    topic = TopicSpec("c", EventTime(TimeFormat.KAFKA))
    assert defaults == {
        "max_future": topic.max_future_ms,
        "max_past": topic.max_past_ms,
        "window": table.window_ms,
        "grace": table.grace_ms,
        "retention": table.retention_ms,
    }
