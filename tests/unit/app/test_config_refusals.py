"""Every refusal names the setting, what is wrong and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config import MINIMAL, ConfigProblemsError, load_config, parse_config
from domain.errors import ConfigError
from tests.unit.app.configs import HOST, load, patched, problems

UNKNOWN = [
    ('app.instnace = "x"', "app.instnace", "did you mean app.instance?"),
    ('tables.0.grce = "5m"', "tables[0].grce", "did you mean tables[0].grace?"),
    ('topics.0.event_time.feild = "x"', "topics[0].event_time.feild", "did you mean topics[0].event_time.field?"),
    ('tables.0.key = [{ feld = "x" }]', "tables[0].key[0].feld", "did you mean tables[0].key[0].field?"),
    ('tables.0.where = [{ field = "x", equal = 1 }]', "tables[0].where[0].equal", "tables[0].where[0].equals?"),
    ('hbase.thrift = ["x:1"]', "hbase", "did you mean sinks.hbase?"),
    ('sinks.archve.url = "file:///x"', "sinks.archve", "did you mean sinks.archive?"),
    ("replication = 1", "replication", "did you mean kafka.replication?"),
    ("web.zzz = 1", "web.zzz", "known here: bind, advertise"),
    ('app.session_timeout = "5s"', "app.session_timeout", "did you mean kafka.session_timeout?"),
]

WRONG = [
    ('app.id = "a.b"', "app.id", 'got "a.b", wants letters', "no dots"),
    ('app.id = ""', "app.id", 'got ""', ""),
    ("app.id = 5", "app.id", "got 5, wants text in quotes", 'id = "clicks"'),
    ('app.instance = "a/b"', "app.instance", 'got "a/b"', "names a folder"),
    ('app.instance = ".."', "app.instance", 'got ".."', "names a folder"),
    ('app.data_dir = "data"', "app.data_dir", "absolute path", "/var/lib/recount"),
    ('kafka.bootstrap_servers = "broker"', "kafka.bootstrap_servers", 'got "broker", wants host:port', "9092"),
    ('kafka.bootstrap_servers = "a:1,b"', "kafka.bootstrap_servers", "wants host:port", ""),
    ('kafka.session_timeout = "10 s"', "kafka.session_timeout", 'got "10 s", wants a duration', '"10s"'),
    ('kafka.session_timeout = "10ms"', "kafka.session_timeout", "wants at least 1s", ""),
    ('kafka.session_timeout = "2h"', "kafka.session_timeout", "wants at most 30m", ""),
    ("kafka.session_timeout = 10", "kafka.session_timeout", "got 10, wants a duration", ""),
    ('kafka.replication = "3"', "kafka.replication", 'got "3", wants a whole number', "without quotes"),
    ("kafka.replication = 1.5", "kafka.replication", "got 1.5, wants a whole number", ""),
    ("kafka.replication = true", "kafka.replication", "got true, wants a whole number", ""),
    ("kafka.replication = 0", "kafka.replication", "wants at least 1", ""),
    ("kafka.replication = 1", "kafka.min_insync_replicas", "more than kafka.replication", "at most 1"),
    ("topics = []", "topics", "at least one entry", "[[topics]]"),
    ('topics = "clicks"', "topics", "wants a list", "[[topics]]"),
    ('topics.0.name = "a b"', "topics[0].name", "wants a Kafka topic name", "249"),
    ('topics.0.event_time = "ts"', "topics[0].event_time", "wants a section", '{ field = "ts"'),
    ('topics.0.event_time.format = "ms"', "topics[0].event_time.format", 'wants "epoch_ms", "epoch_s"', ""),
    ('topics.0.event_time.format = "kafka"', "topics[0].event_time", "takes no field", "remove field"),
    ('topics.0.event_time.field = "a..b"', "topics[0].event_time.field", "wants a field name", "dots between"),
    ('topics.0.format = "avro"', "topics[0].format", 'got "avro", wants "json"', ""),
    ('topics.1 = { name = "clicks", event_time = { format = "kafka" } }', "topics[1].name", "is topics[0]", "own name"),
    (
        'topics.1 = { name = "b", event_time = { format = "kafka" } }',
        "topics[1].name",
        'nothing reads "b"',
        "add a table",
    ),
    (
        'topics.1 = { name = "b", event_time = { format = "iso8601" } }',
        "topics[1].event_time",
        "needs a field",
        "field =",
    ),
    ('topics.0.name = "clicks-clicks-changelog"', "tables[0].topic", "is in no [[topics]]", "clicks-clicks-changelog"),
    ('tables.0.name = "a.b"', "tables[0].name", "wants letters, digits", "HBase"),
    ('tables.0.name = "a/b"', "tables[0].name", "wants letters, digits", "HBase"),
    ('tables.0.name = "-a"', "tables[0].name", "wants letters, digits", "HBase"),
    ('tables.0.name = "a_windows"', "tables[0].name", "certificates", "another name"),
    ('tables.0.topic = "nope"', "tables[0].topic", "is in no [[topics]]", "known: clicks"),
    ("tables.0.key = []", "tables[0].key", "at least one entry", 'key = ["page"]'),
    ('tables.0.key = "page"', "tables[0].key", "wants a list", 'key = ["page"]'),
    ("tables.0.key = [5]", "tables[0].key[0]", "wants a section", ""),
    ("tables.0.key = [{}]", "tables[0].key[0]", "wants a field or a source", "kafka_key"),
    ('tables.0.key = [{ field = "a", source = "kafka_key" }]', "tables[0].key[0]", "wants a field or a source", ""),
    ('tables.0.key = [{ source = "kafka_key", type = "int" }]', "tables[0].key[0]", "always text", "remove type"),
    ('tables.0.key = [{ field = "a", type = "float" }]', "tables[0].key[0].type", '"string", "int" or "bool"', ""),
    ('tables.0.where = [{ field = "a" }]', "tables[0].where[0]", "asks nothing", 'field = "a", exists'),
    ("tables.0.where = [{ exists = true }]", "tables[0].where[0].field", "missing", "add field"),
    (
        'tables.0.where = [{ field = "a", equals = 2026-01-01 }]',
        "tables[0].where[0].equals",
        "wants text",
        "JSON has no dates",
    ),
    ('tables.0.where = [{ field = "a", equals = [1] }]', "tables[0].where[0].equals", "wants text, a number", ""),
    ('tables.0.where = [{ field = "a", equals = nan }]', "tables[0].where[0].equals", "nothing in JSON", "finite"),
    ('tables.0.where = [{ field = "a", in = [] }]', "tables[0].where[0].in", "at least one entry", "in = ["),
    (
        'tables.0.where = [{ field = "a", in = [08:00:00] }]',
        "tables[0].where[0].in[0]",
        "wants text",
        "JSON has no dates",
    ),
    ('tables.0.where = [{ field = "a", exists = "no" }]', "tables[0].where[0].exists", "true or false", ""),
    (
        'tables.0.where = [{ field = "a", equals = 1, exists = false }]',
        "tables[0].where[0]",
        "no record can pass",
        "remove",
    ),
    ('tables.0.window = "0s"', "tables[0].window", "wants at least 1ms", ""),
    ('tables.0.retention = "5m"', "tables[0].retention", "5m is shorter than grace", "at least 10m"),
    (
        'tables.0.retention = "7d"',
        "topics[0].max_past",
        "shorter than retention + window of tables[0]",
        "at least 10085m",
    ),
    ('tables.0.start = "latest"', "tables[0].start", "same on every run", "earliest"),
    ('tables.0.dedup = "id"', "tables[0].dedup", "wants a section", '{ field = "id" }'),
    ('tables.0.finals_topic = "clicks"', "tables[0].finals_topic", "is a source topic", "another name"),
    ('tables.0.finals_topic = "clicks-clicks-changelog"', "tables[0].finals_topic", "is a changelog", "another name"),
    (
        (
            'tables.0.finals_topic = "f"\n'
            'tables.1 = { name = "other", topic = "more", key = ["a"], finals_topic = "f" }\n'
            'topics.1 = { name = "more", event_time = { format = "kafka" } }'
        ),
        "tables[1].finals_topic",
        "takes the finals of page_views",
        "another name",
    ),
    ('tables.1 = { name = "page_views", topic = "clicks", key = ["a"] }', "tables[1].name", "is tables[0]", "own name"),
    ('state.backend = "rock"', "state.backend", 'got "rock", wants "rocksdb" or "redis"', ""),
    ('state.backend = "redis"', "state.url", "missing", "redis://"),
    ('state.url = "redis://x"', "state.url", "no meaning", 'backend = "redis"'),
    ('state.url = "http://x"', "state.url", "wants a Redis URL", "redis://"),
    ('state.url = "redis://:pa55word@x"', "state.url", "holds a password", "state.password_file"),
    ("state.cache_cells = 0", "state.cache_cells", "at least 1", ""),
    ('checkpoint.interval = "1ms"', "checkpoint.interval", "wants at least 10ms", ""),
    ('checkpoint.revoke_budget = "1m"', "checkpoint.revoke_budget", "wants at most 9s", ""),
    ("sinks.hbase = {}", "sinks.hbase.thrift", "missing", "add thrift"),
    ('sinks.hbase.thrift = ["x"]', "sinks.hbase.thrift[0]", "wants host:port", ""),
    (
        'sinks.hbase = { thrift = ["x:1"], events = ["no"] }',
        "sinks.hbase.events[0]",
        "in no [[topics]]",
        "known: clicks",
    ),
    ('sinks.archive.url = "s3://x/y"', "sinks.archive.url", "wants a folder on HDFS or here", "hdfs://"),
    ('sinks.archive.url = "hdfs://x"', "sinks.archive.url", "wants a folder", "hdfs://"),
    ('sinks.archive.url = "file://x/y"', "sinks.archive.url", "wants a folder", "file:///"),
    ('sinks.archive.roll_bytes = "1GB"', "sinks.archive.roll_bytes", "wants a size", '"256MiB"'),
    ("sinks.archive = 1", "sinks.archive", "got 1, wants a section", "[sinks.archive]"),
    ("topics.0.archive_window = '90s'\nsinks.archive = {}", "topics[0].archive_window", "isn't whole minutes", '"5m"'),
    ("tables.0.window = '2m'\nsinks.archive = {}", "topics[0].archive_window", "doesn't divide", '"1m" or another'),
    ("tables.0.window = '30s'\nsinks.archive = {}", "topics[0].archive_window", "doesn't divide", "whole minutes"),
    ('web.bind = "0.0.0.0"', "web.bind", "wants host:port", ""),
    ('web.bind = "0.0.0.0:6066"', "web.bind", "no token", "web.allow_public = true"),
    ('web.bind = "example.org:0"', "web.bind", "no token", "web.token_file"),
    ('web.token = "abc"', "web.token", "doesn't belong in this file", "RECOUNT__WEB__TOKEN"),
    ('state.password = "abc"', "state.password", "doesn't belong in this file", "state.password_file"),
    ('web.tls_cert = "/x"', "web.tls_key", "missing", "TLS needs"),
    ('web.allow_public = "yes"', "web.allow_public", "true or false", "without quotes"),
    ('web.advertise = "worker:1"', "web.advertise", "other workers reach", "http://"),
    ('web.idle_timeout = "0s"', "web.idle_timeout", "at least 1ms", ""),
]


@pytest.mark.parametrize(("patch", "setting", "fix"), UNKNOWN, ids=[case[1] for case in UNKNOWN])
def test_an_unknown_setting_names_the_nearest_valid_one(patch: str, setting: str, fix: str) -> None:
    found = problems(patched(patch))
    assert "unknown setting" in found[setting].problem
    assert fix in found[setting].fix


@pytest.mark.parametrize(("patch", "setting", "problem", "fix"), WRONG, ids=[f"{case[1]}: {case[0]}" for case in WRONG])
def test_a_wrong_value_names_the_setting_and_the_fix(patch: str, setting: str, problem: str, fix: str) -> None:
    found = problems(patched(patch))
    assert setting in found, found
    assert problem in found[setting].problem
    assert fix in found[setting].fix


def test_all_problems_are_reported_at_once() -> None:
    text = patched('app.id = 5\nkafka.replication = "x"\ntables.0.grce = "1m"\nweb.token = "abc"')
    assert set(problems(text)) == {"app.id", "kafka.replication", "tables[0].grce", "web.token"}
    with pytest.raises(ConfigProblemsError) as caught:
        load(text)
    assert str(caught.value).count("\n  ") == 4


def test_settings_that_do_not_fit_are_reported_at_once() -> None:
    text = patched('kafka.replication = 1\ntables.0.retention = "1m"\nweb.bind = "0.0.0.0:1"')
    assert set(problems(text)) == {"kafka.min_insync_replicas", "tables[0].retention", "web.bind"}


@pytest.mark.parametrize(
    ("text", "section", "fix"),
    [
        ("", "app", 'add [app] with id = "clicks"'),
        ('[app]\nid = "x"', "topics", "add [[topics]] with name ="),
    ],
)
def test_a_missing_section_shows_its_header(text: str, section: str, fix: str) -> None:
    found = problems(text)
    assert found[section].problem == "missing"
    assert fix in found[section].fix


@pytest.mark.parametrize(
    ("text", "place"), [('[app]\nid = "a\n', "line 2, column 8"), ("[app]\nid = [", "line 2, column 7")]
)
def test_a_syntax_error_names_file_line_and_column(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=f"my.toml, {place}: not TOML"):
        parse_config(text, "my.toml", {})


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_config(tmp_path / "recount.toml", {})
    assert MINIMAL in caught.value.fix


def test_a_file_that_is_not_text_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "binary.toml", {})
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path, {})


def test_a_refusal_never_shows_a_password() -> None:
    for patch in ('state.url = "redis://:pa55word@x"', 'web.token = "pa55word"', "state.password = ['pa55word']"):
        with pytest.raises(ConfigProblemsError) as caught:
            load(patched(patch))
        assert "pa55word" not in str(caught.value)
    with pytest.raises(ConfigProblemsError) as caught:
        load(environ={"RECOUNT__STATE__PASSWORD": '["pa55word"]', "RECOUNT__APP__ID": "a.b"})
    assert "pa55word" not in str(caught.value)


def test_host_name_is_a_fallback_only() -> None:
    assert load().app.instance == HOST
    assert load(patched('app.instance = "w1"')).app.instance == "w1"
    assert parse_config(MINIMAL, environ={}, host_name="ümläut host/1").app.instance == "-ml-ut-host-1"
