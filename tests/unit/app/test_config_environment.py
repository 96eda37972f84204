from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config import all_settings, web_token
from app.config.environment import overlay
from domain.errors import ConfigError
from tests.unit.app.configs import load, patched, problems


def test_a_variable_overrides_the_file() -> None:
    config = load(
        patched('kafka.session_timeout = "20s"'),
        {
            "RECOUNT__KAFKA__SESSION_TIMEOUT": "6s",
            "RECOUNT__KAFKA__REPLICATION": "1",
            "RECOUNT__KAFKA__MIN_INSYNC_REPLICAS": "1",
            "RECOUNT__WEB__ALLOW_PUBLIC": "true",
            "RECOUNT__APP__ID": "7",
            "PATH": "/bin",
        },
    )
    assert config.kafka.session_timeout.seconds == 6
    assert config.kafka.replication == 1
    assert config.web.allow_public is True
    assert config.app.id == "7"


def test_a_variable_adds_a_section_the_file_lacks() -> None:
    archive = load(environ={"RECOUNT__SINKS__ARCHIVE__ROLL_BYTES": "1MiB"}).sinks.archive
    assert archive is not None
    assert archive.roll_bytes == 1 << 20
    assert archive.url == "file:///var/lib/recount/archive"


def test_numbered_entries_go_into_lists() -> None:
    config = load(
        environ={
            "RECOUNT__TABLES__0__GRACE": "1m",
            "RECOUNT__TABLES__0__KEY": '["a", {"field": "n", "type": "int"}]',
            "RECOUNT__TABLES__1__NAME": "second",
            "RECOUNT__TABLES__1__TOPIC": "clicks",
            "RECOUNT__TABLES__1__KEY__0__SOURCE": "kafka_key",
            "RECOUNT__TABLES__1__WHERE": '[{"field": "bot", "exists": false}]',
            "RECOUNT__TOPICS__0__EVENT_TIME__FIELD": "at",
        }
    )
    first, second = config.tables
    assert first.grace.ms == 60_000
    assert [part.field for part in first.key] == ["a", "n"]
    assert second.key[0].source == "kafka_key"
    assert second.where[0].exists is False
    assert config.topics[0].event_time.field == "at"


def test_a_whole_list_is_json() -> None:
    tables = '[{"name": "other", "topic": "clicks", "key": ["user"]}]'
    assert [table.name for table in load(environ={"RECOUNT__TABLES": tables}).tables] == ["other"]


@pytest.mark.parametrize(
    ("variable", "value", "setting", "text"),
    [
        ("RECOUNT__APP__INSTNACE", "x", "app.instnace", "did you mean app.instance?"),
        ("RECOUNT__AP__ID", "x", "ap", "did you mean app?"),
        ("RECOUNT__KAFKA__REPLICATION", "three", "kafka.replication", "wants a whole number"),
        ("RECOUNT__KAFKA__REPLICATION", "-1", "kafka.replication", "wants a whole number"),
        ("RECOUNT__TABLES__0__GRACE", "5 m", "tables[0].grace", "wants a duration"),
        ("RECOUNT__TABLES", "[{", "tables", "wants a list"),
        ("RECOUNT__TABLES", '[{"name": "x"}]', "tables[0].key", "missing"),
        ("RECOUNT__WEB__ALLOW_PUBLIC", "maybe", "web.allow_public", "wants true or false"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, setting: str, text: str) -> None:
    problem = problems(patched(""), {variable: value})[setting]
    assert text in str(problem)
    assert f"(from {variable})" in problem.problem


def test_a_hole_in_a_numbered_list_is_refused() -> None:
    problem = problems(patched(""), {"RECOUNT__TABLES__5__GRACE": "1m"})["tables[5]"]
    assert "the next is tables[1]" in problem.fix


def test_a_secret_comes_by_variable_or_file_and_prints_masked() -> None:
    config = load(environ={"RECOUNT__WEB__TOKEN": "s3cret"})
    assert web_token(config) == "s3cret"
    assert "s3cret" not in repr(config)
    assert "s3cret" not in config.model_dump_json()
    assert web_token(load()) is None


def test_a_secret_file_is_read_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "token"
    config = load(patched(f'web.token_file = "{path}"\nweb.bind = "0.0.0.0:0"'))
    with pytest.raises(ConfigError, match=r"web.token_file: .*can't be read"):
        web_token(config)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        web_token(config)
    path.write_text("s3cret\n")
    assert web_token(config) == "s3cret"
    both = problems(patched(f'web.token_file = "{path}"'), {"RECOUNT__WEB__TOKEN": "x"})
    assert "set twice" in both["web.token_file"].problem


@pytest.mark.parametrize("name", [one.name for one in all_settings() if "[]" not in one.name and one.section is None])
def test_every_plain_setting_is_reachable_from_the_environment(name: str) -> None:
    # A value no setting takes: the refusal proves that it arrived there. Texts take it, they can't refuse.
    value = "[\x00"
    variable = "RECOUNT__" + name.upper().replace(".", "__")
    extra = {"RECOUNT__SINKS__HBASE__THRIFT": '["x:1"]'} if name.startswith("sinks.hbase.") else {}
    if name in ("web.token", "state.password"):
        assert load(environ={variable: value})
    else:
        assert any(found.startswith(name) for found in problems(patched(""), {**extra, variable: value}))


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xyz"), st.integers())))
def test_laying_a_configuration_over_itself_changes_nothing(base: dict[str, object]) -> None:
    assert overlay(base, base) == base
    assert overlay(base, {}) == base
    assert overlay(tomllib.loads(""), base) == base
