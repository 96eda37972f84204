"""Exit codes and messages of the command line."""

from __future__ import annotations

import io
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.cli import app, main
from app.cli_errors import CODES, ExitCode, exit_code
from app.cli_reset import confirmed
from app.config import MINIMAL, AcceptedGap, Config
from domain.errors import (
    ConfigError,
    CorruptRowError,
    DependencyError,
    DiskError,
    FencedError,
    MalformedRecordError,
    RecountError,
    RefusedError,
    SinkUnavailableError,
    TaintedError,
)
from tests.unit.app.configs import patched

LATER = [
    ["replay", "--table", "t", "--from", "2026-11-23T00:00Z", "--to", "2026-11-24T00:00Z", "--steps", "seal,audit"],
    ["audit", "--table", "t", "--from", "2026-11-23T00:00Z"],
    ["archive", "cat", "clicks/x.log"],
    ["archive", "verify", "--topic", "clicks"],
]
COMMANDS = ["worker", "check", "demo", "produce", "inspect", "replay", "audit", "archive", "rescan", "reset"]


def run(*arguments: str, **options: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "recount.toml"
    path.write_text(MINIMAL)
    return str(path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Any]]:
    """What `run_worker` was called with; it answers 0."""
    calls: list[tuple[Config, Any]] = []
    module: Any = types.ModuleType("app.supervisor")

    def run_worker(settings: Config, *, accept_gaps: Any) -> int:
        calls.append((settings, accept_gaps))
        return 0

    module.run_worker = run_worker
    monkeypatch.setitem(sys.modules, "app.supervisor", module)
    monkeypatch.setattr("app.logs.configure_logging", lambda *_: None)
    return calls


def test_help_lists_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(f" {command} " in out for command in COMMANDS)


def test_help_imports_neither_faust_nor_the_configuration() -> None:
    heavy = "{'faust', 'aiokafka', 'pydantic'}"
    program = f"import sys; import app.cli; sys.exit(not {heavy}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[3]).returncode == 0


@pytest.mark.parametrize("arguments", LATER, ids=" ".join)
def test_a_command_of_a_later_part_says_so_and_exits_2(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert code == ExitCode.CONFIG
    assert out == ""
    assert "not available in this version: recount " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["wroker"],
        ["check", "--ofline"],
        ["produce"],
        ["produce", "f"],
        ["reset"],
        ["demo", "--events", "0"],
        ["archive", "x"],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert "Error" in err


def test_a_missing_file_exits_2_and_shows_a_minimal_one(tmp_path: Path) -> None:
    code, _, err = run("check", "--config", str(tmp_path / "nope.toml"))
    assert code == ExitCode.CONFIG
    assert MINIMAL in err


def test_all_problems_of_a_file_stand_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "recount.toml"
    path.write_text(patched('app.instnace = "x"\nkafka.replication = "many"'))
    code, out, err = run("worker", "--config", str(path))
    assert (code, out) == (ExitCode.CONFIG, "")
    assert "app.instnace: unknown setting; did you mean app.instance?" in err
    assert 'kafka.replication: got "many"' in err
    assert "Traceback" not in err


def test_check_offline_prints_tables_and_fingerprints(config: str) -> None:
    code, out, err = run("check", "--config", config, "--offline")
    assert (code, err) == (0, "")
    assert "page_views" in out
    assert "clicks by page (string)" in out
    assert "Kafka at" not in out


def test_check_offline_names_settings_without_effect(tmp_path: Path) -> None:
    path = tmp_path / "recount.toml"
    path.write_text(patched('state = { backend = "redis", url = "redis://x" }'))
    code, out, _ = run("check", "--config", str(path), "--offline")
    assert code == ExitCode.CONFIG
    assert "state.backend" in out


def test_worker_starts_with_the_settings_and_accepted_gaps(config: str, started: list[tuple[Config, Any]]) -> None:
    code, _, _ = run(
        "worker", "--config", config, "--accept-gap", "clicks-3:1000-1999", env={"RECOUNT__APP__INSTANCE": "w9"}
    )
    assert code == 0
    ((settings, gaps),) = started
    assert settings.app.instance == "w9"
    assert gaps == (AcceptedGap("clicks", 3, 1000, 1999),)


def test_worker_finds_the_file_by_variable(config: str, started: list[tuple[Config, Any]]) -> None:
    assert run("worker", env={"RECOUNT_CONFIG": config})[0] == 0
    assert len(started) == 1


@pytest.mark.parametrize(
    ("patch", "arguments", "text"),
    [
        ('state = { backend = "redis", url = "redis://x" }', [], "state.backend"),
        ("", ["--accept-gap", "clicks:1-2"], "--accept-gap"),
        ("", ["--accept-gap", "other-1:1-2"], "known: clicks"),
    ],
)
def test_worker_does_not_start_when_it_would_promise_something_else(
    tmp_path: Path, started: list[tuple[Config, Any]], patch: str, arguments: list[str], text: str
) -> None:
    path = tmp_path / "recount.toml"
    path.write_text(patched(patch))
    code, _, err = run("worker", "--config", str(path), *arguments)
    assert code == ExitCode.CONFIG
    assert text in err
    assert started == []


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("app.id", "missing", "add it"), 2, "error: app.id: missing; add it"),
        (DependencyError("Kafka at x:1", "no answer", "start it"), 3, "error: Kafka at x:1: no answer; start it"),
        (DiskError("/data/w1", "No space left on device"), 3, "error: /data/w1: No space left on device; make room"),
        (SinkUnavailableError("hdfs", "safe mode"), 3, "error: hdfs: safe mode"),
        (TaintedError("commit"), 3, "error: commit"),
        (RefusedError("page_views", "other fingerprint", "recount reset"), 4, "refused: page_views\n  why: other"),
        (FencedError("clicks-3"), 4, "error: clicks-3"),
        (CorruptRowError("row"), 4, "error: row"),
    ],
)
def test_an_error_has_its_code_and_no_traceback(
    config: str, monkeypatch: pytest.MonkeyPatch, error: RecountError, code: int, text: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr("app.check.run_check", fail)
    got, out, err = run("check", "--config", config)
    assert (got, out) == (code, "")
    assert text in err
    assert "Traceback" not in err


def test_every_error_that_can_leave_a_command_has_a_code() -> None:
    kinds = [kind for kind in RecountError.__subclasses__() if kind.__module__ == "domain.errors"]
    inner = {kind for kind in kinds if exit_code(kind.__new__(kind)) is ExitCode.BUG}
    assert inner == {MalformedRecordError}  # tallied, never raised past the fold
    assert {code for _, code in CODES} == {ExitCode.CONFIG, ExitCode.UNREACHABLE, ExitCode.REFUSED}


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), MalformedRecordError("bug")])
def test_an_unknown_error_keeps_its_traceback_and_exits_70(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr("app.check.run_check", fail)
    monkeypatch.setattr("sys.argv", ["recount", "check", "--config", config])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == ExitCode.BUG
    assert "Traceback" in capsys.readouterr().err


def test_produce_refuses_a_file_that_is_not_there() -> None:
    code, _, err = run("produce", "nope.ndjson", "--topic", "t")
    assert code == ExitCode.CONFIG
    assert "nope.ndjson can't be read" in err


@pytest.mark.parametrize(
    ("patch", "arguments", "text"),
    [
        ("", ["rescan", "--table", "page_views"], "sinks.hbase: missing"),
        ('sinks.hbase.thrift = ["127.0.0.1:1"]', ["rescan", "--table", "nope"], "known: page_views"),
        ('state = { backend = "redis", url = "redis://x" }', ["reset", "--table", "page_views"], "state.backend"),
    ],
)
def test_rescan_and_reset_say_what_is_not_configured(
    tmp_path: Path, patch: str, arguments: list[str], text: str
) -> None:
    path = tmp_path / "recount.toml"
    path.write_text(patched(patch))
    code, out, err = run(*arguments, "--yes", "--config", str(path))
    assert (code, out) == (ExitCode.CONFIG, "")
    assert text in err


def test_reset_without_kafka_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.reset.KAFKA_S", 0.5)
    path = tmp_path / "recount.toml"
    path.write_text(patched(f'app.data_dir = "{tmp_path}/data"\nkafka.bootstrap_servers = "127.0.0.1:1"'))
    code, out, err = run("reset", "--table", "page_views", "--yes", "--config", str(path))
    assert (code, out) == (ExitCode.UNREACHABLE, "")
    assert "Kafka at 127.0.0.1:1" in err
    assert not (tmp_path / "data").exists()


def test_what_takes_away_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    assert confirmed(True, "Sure?", console)
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    with pytest.raises(ConfigError, match="add --yes"):
        confirmed(False, "Sure?", console)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, default: default)
    assert not confirmed(False, "Sure?", console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "nothing was changed\n"
    monkeypatch.setattr("typer.confirm", lambda *_, default: not default)
    assert confirmed(False, "Sure?", console)


def test_archive_ls_prints_committed_and_open_files(tmp_path: Path) -> None:
    path = tmp_path / "recount.toml"
    path.write_text(patched(f'sinks.archive.url = "file://{tmp_path}/archive"'))
    assert run("archive", "ls", "--config", str(path)) == (0, "", "")
    topic = tmp_path / "archive" / "clicks"
    for name in ("dt=2026-11-23/hm=0805/a.log", "_open/3/b.log", "_ledger/3/c.log", "_torn/3/d.log"):
        (topic / name).parent.mkdir(parents=True)
        (topic / name).write_text("12345")
    code, out, _ = run("archive", "ls", "--config", str(path))
    assert code == 0
    assert out.splitlines() == [
        f"open\t5\t{topic}/_open/3/b.log",
        f"committed\t5\t{topic}/dt=2026-11-23/hm=0805/a.log",
    ]
    code, out, _ = run("archive", "ls", "--config", str(path), "--all", "--topic", "clicks")
    assert [line.partition("\t")[0] for line in out.splitlines()] == ["ledger", "open", "torn", "committed"]
    assert run("archive", "ls", "--config", str(path), "--topic", "no")[0] == ExitCode.CONFIG


def test_archive_ls_without_an_archive_says_what_to_add(config: str) -> None:
    code, _, err = run("archive", "ls", "--config", config)
    assert code == ExitCode.CONFIG
    assert "sinks.archive: missing" in err
