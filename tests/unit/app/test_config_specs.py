from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.config import all_settings, inactive_settings, load_config, parse_gaps, refuse_inactive, to_specs
from app.config.gaps import AcceptedGap
from domain.errors import ConfigError
from domain.spec import EventTime, KeyField, KeyType, TableSpec, TimeFormat, TopicSpec, WhereRule, fingerprint
from tests.spec import oracle
from tests.unit.app.configs import load, patched

ROOT = Path(__file__).parents[3]


def test_defaults_are_those_of_the_specification() -> None:
    (topic,), (table,) = to_specs(load())
    assert topic == TopicSpec("clicks", EventTime(TimeFormat.EPOCH_MS, "ts"))
    assert table == TableSpec("page_views", "clicks", (KeyField("page"),))
    for name, value in oracle.DEFAULTS.items():
        here = topic if name.startswith("max_") else table
        assert getattr(here, f"{name}_ms") == oracle.duration_ms(value)


def test_every_part_of_a_table_reaches_its_spec() -> None:
    config = load("""
app.id = "a"
[[topics]]
name = "t"
event_time = { format = "kafka" }
max_future = "1s"
max_past = "30d"
archive_window = "1m"
[[tables]]
name = "n"
topic = "t"
key = ["a.b", { source = "kafka_key" }, { field = "n", type = "int" }, { field = "b", type = "bool" }]
where = [{ field = "x", equals = 1.5, in = ["a", true], exists = true }, { field = "y", exists = false }]
window = "1m"
grace = "2m"
retention = "3m"
start = "2026-11-23T08:00:00Z"
dedup = { field = "id" }
finals_topic = "f"
""")
    (topic,), (table,) = to_specs(config)
    assert topic == TopicSpec(
        "t", EventTime(TimeFormat.KAFKA), archive_window_ms=60_000, max_future_ms=1000, max_past_ms=30 * 86_400_000
    )
    assert table == TableSpec(
        name="n",
        topic="t",
        key=(KeyField("a.b"), KeyField(None), KeyField("n", KeyType.INT), KeyField("b", KeyType.BOOL)),
        where=(
            WhereRule("x", allowed=(1.5,)),
            WhereRule("x", allowed=("a", True)),
            WhereRule("x", exists=True),
            WhereRule("y", exists=False),
        ),
        window_ms=60_000,
        grace_ms=120_000,
        retention_ms=180_000,
        dedup="id",
        start_ms=1_795_420_800_000,
        finals_topic="f",
    )


def test_the_kinds_of_a_value_stay_apart() -> None:
    config = load(patched('tables.0.where = [{ field = "x", in = [1, 1.0, true, "1"] }]'))
    assert config.tables[0].where[0].any_of is not None
    assert [type(one) for one in config.tables[0].where[0].any_of] == [int, float, bool, str]


INPUTS = [
    'topics.0.event_time.field = "other"',
    'topics.0.event_time.format = "epoch_s"',
    'topics.0.max_future = "11m"',
    'topics.0.max_past = "8d"',
    'topics.0.name = "b"\ntables.0.topic = "b"',
    'tables.0.key = ["other"]',
    'tables.0.key = ["page", "other"]',
    'tables.0.key = [{ field = "page", type = "int" }]',
    'tables.0.key = [{ source = "kafka_key" }]',
    'tables.0.where = [{ field = "a", equals = 1 }]',
    'tables.0.where = [{ field = "a", equals = 1.0 }]',
    'tables.0.where = [{ field = "a", equals = true }]',
    'tables.0.where = [{ field = "a", equals = "1" }]',
    'tables.0.where = [{ field = "a", exists = true }]',
    'tables.0.where = [{ field = "a", exists = false }]',
    'tables.0.window = "1m"',
    'tables.0.grace = "11m"',
    'tables.0.retention = "25h"',
    'tables.0.start = "2026-11-23T08:00:00Z"',
    'tables.0.dedup = { field = "id" }',
]
NO_INPUTS = [
    'app = { id = "other", instance = "w2", data_dir = "/x" }',
    'kafka = { bootstrap_servers = "x:1", session_timeout = "6s", replication = 2, min_insync_replicas = 1 }',
    'topics.0.archive_window = "1m"',
    'tables.0.name = "renamed"',
    'tables.0.finals_topic = "finals"',
    "state.cache_cells = 5",
    'state = { backend = "redis", url = "redis://x" }',
    'checkpoint = { interval = "2s", max_records = 1, revoke_budget = "1s" }',
    'sinks = { hbase = { thrift = ["x:1"] }, archive = {} }',
    'web = { bind = "127.0.0.1:0", idle_timeout = "1s" }',
    'tables.0 = { window = "5m", grace = "600s", retention = "1d", start = "earliest" }',
    'tables.0.key = [{ field = "page", type = "string" }]',
    'tables.1 = { name = "second", topic = "clicks", key = ["other"] }',
]


def mark(patch: str = "") -> str:
    topics, tables = to_specs(load(patched(patch)))
    return fingerprint(topics[0], tables[0])


@pytest.mark.parametrize("patch", INPUTS)
def test_an_input_of_the_function_changes_the_fingerprint(patch: str) -> None:
    assert mark(patch) != mark()


def test_every_input_has_a_fingerprint_of_its_own() -> None:
    marks = {mark(patch) for patch in INPUTS}
    assert len(marks) == len(INPUTS)


@pytest.mark.parametrize("patch", NO_INPUTS)
def test_nothing_else_changes_the_fingerprint(patch: str) -> None:
    assert mark(patch) == mark()


def test_every_setting_of_topics_and_tables_is_an_input_or_known_not_to_be() -> None:
    tried = tomllib_keys("\n".join(INPUTS[:5])) | {"format"}  # one format only: nothing else to try
    no_inputs = {"archive_window"}
    here = {one.name.split(".")[1] for one in all_settings() if one.name.startswith("topics[].")}
    assert here == tried | no_inputs
    tried = {name for patch in INPUTS for name in tomllib_keys(patch, "tables")}
    here = {one.name.split(".")[1].removesuffix("[]") for one in all_settings() if one.name.startswith("tables[].")}
    assert here == tried | {"name", "finals_topic"}


def tomllib_keys(patch: str, section: str = "topics") -> set[str]:
    names: set[str] = set()
    for line in patch.splitlines():
        entry: Any = tomllib.loads(line).get(section, {}).get("0", {})
        names |= set(entry)
    return names


def test_the_same_question_grouped_otherwise_has_one_fingerprint() -> None:
    together = mark('tables.0.where = [{ field = "a", equals = 1, exists = true }]')
    apart = mark('tables.0.where = [{ field = "a", in = [1] }, { field = "a", exists = true }]')
    assert together == apart


def test_the_example_in_the_repository_is_right() -> None:
    config = load_config(ROOT / "recount.toml", {})
    assert to_specs(config) == to_specs(load())


def test_parts_of_later_versions_are_named_and_redis_refuses() -> None:
    with pytest.raises(ConfigError, match=r"state.backend: .*Redis.*rocksdb"):
        refuse_inactive(load(patched('state = { backend = "redis", url = "redis://x" }')))
    assert inactive_settings(load()) == []


def test_accepted_gaps() -> None:
    config = load(patched('topics.0.name = "my-topic-1"\ntables.0.topic = "my-topic-1"'))
    texts = ["my-topic-1-3:1000-1999", "my-topic-1-0:5-5"]
    assert parse_gaps(texts, config) == (AcceptedGap("my-topic-1", 3, 1000, 1999), AcceptedGap("my-topic-1", 0, 5, 5))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("clicks-3:1999-1000", "wants topic-partition:first-last"),
        ("clicks:1-2", "wants topic-partition:first-last"),
        ("clicks-3:1", "wants topic-partition:first-last"),
        ("other-3:1-2", "is in no"),
        ("clicks-0:8-9", "two ranges"),
    ],
)
def test_a_gap_that_is_no_range_of_ours_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_gaps(["clicks-0:1-2", text], load())
    assert caught.value.setting == "--accept-gap"
