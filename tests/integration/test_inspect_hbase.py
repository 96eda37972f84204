"""`recount inspect --from hbase`: no worker, no Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.claimants import claimants
from app.cli import app
from app.cli_errors import ExitCode
from app.config import parse_config
from tests.hbase_rows import Stranger, certificate, new_table_name

T0 = 1_795_421_100_000
START = "2026-11-23T08:05:00Z"
WINDOW = 300_000


def config_text(table: str, address: str | None) -> str:
    sink = "" if address is None else f'[sinks.hbase]\nthrift = ["{address}"]\n'
    return f"""
[app]
id = "clicks"
[[topics]]
name = "clicks"
event_time = {{ format = "kafka" }}
[[tables]]
name = "{table}"
topic = "clicks"
key = ["page"]
[[tables]]
name = "{table}p"
topic = "clicks"
key = ["page", {{ field = "user", type = "int" }}]
{sink}"""


@pytest.fixture
def stranger(hbase_thrift: str) -> Iterator[Stranger]:
    one = Stranger(hbase_thrift, new_table_name())
    yield one
    one.close()


@pytest.fixture
def config(stranger: Stranger, tmp_path: Path) -> Path:
    path = tmp_path / "recount.toml"
    path.write_text(config_text(stranger.table, stranger.address))
    return path


def fill(stranger: Stranger, app_id: str = "clicks") -> None:
    stranger.make_tables()
    text = config_text(stranger.table, stranger.address)
    stranger.own(app_id, "clicks", claimants(parse_config(text, environ={}, host_name="h"))[0].fingerprint)
    stranger.frontier(0, 80, T0 + WINDOW, archive=70)
    stranger.frontier(3, 9, -1)
    stranger.certify(T0, 0, certificate(10, late=2, expired=4, partial=True))
    stranger.certify(T0, 3, certificate(1))
    stranger.certify(T0 + WINDOW, 0, certificate(5))
    stranger.cell(T0, b"/a\x1b[2J", n0=7, l0=2, e0=1)
    stranger.cell(T0, b"/b|", n0=3, n3=1)
    stranger.cell(T0 + WINDOW, b"/b|", n0=5)


def run(config: Path, *arguments: str) -> tuple[int, str, str]:
    command = ["inspect", *arguments, "--from", "hbase", "--config", str(config)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "150"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def as_json(config: Path, *arguments: str) -> dict[str, object]:
    code, out, err = run(config, *arguments, "--json")
    assert code == 0, err
    answer: dict[str, object] = json.loads(out)
    return answer


def cells(out: str) -> list[list[str]]:
    """The body of the table printed."""
    return [[one.strip() for one in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_each_table_with_its_owner_and_frontier(stranger: Stranger, config: Path) -> None:
    fill(stranger)
    code, out, _ = run(config)
    assert code == 0
    assert f"{stranger.table}: app clicks, topic clicks, fingerprint " in out
    assert "not what this configuration counts" not in out
    assert cells(out) == [["0", "81", "2026-11-23T08:10:00Z", "70"], ["3", "10", "-", "-"]]
    assert f"{stranger.table}p: nothing in HBase yet" in out
    tables = as_json(config)["tables"]
    assert isinstance(tables, list)
    assert [one["ours"] for one in tables] == [True, False]
    assert tables[0]["owner"]["table_id"] == "0011"
    assert tables[0]["partitions"][0]["stream_time_ms"] == T0 + WINDOW


def test_windows_come_from_the_certificates(stranger: Stranger, config: Path) -> None:
    fill(stranger)
    code, out, _ = run(config, stranger.table)
    assert code == 0
    assert cells(out) == [
        [START, "partial", "13", "11", "2", "4"],
        ["2026-11-23T08:10:00Z", "-", "5", "5", "0", "0"],
    ]
    for since, until, starts in ((START, str(T0 + WINDOW), [T0]), (str(T0 + 1), None, [T0 + WINDOW])):
        until_option = () if until is None else ("--until", until)
        windows = as_json(config, stranger.table, "--since", since, *until_option)["windows"]
        assert isinstance(windows, list)
        assert [one["start_ms"] for one in windows] == starts


def test_the_largest_keys_of_a_window_cannot_steer_the_terminal(stranger: Stranger, config: Path) -> None:
    fill(stranger)
    for start in (START, str(T0)):
        code, out, _ = run(config, stranger.table, "--window", start)
        assert code == 0
        assert "13 events, 2 late, keys from HBase" in out
        assert cells(out) == [["/a\\x1b[2J", "10", "7", "2", "1"], ["/b|", "4", "4", "0", "0"]]
    _, out, _ = run(config, stranger.table, "--window", START, "--top", "1")
    assert len(cells(out)) == 1
    answer = as_json(config, stranger.table, "--window", START)
    assert answer["keys"] == 2
    assert answer["hbase_as_of"] == [
        {"partition": 0, "next_offset": 81, "stream_time": "2026-11-23T08:10:00Z", "stream_time_ms": T0 + WINDOW},
        {"partition": 3, "next_offset": 10, "stream_time": None, "stream_time_ms": None},
    ]


def test_one_key_over_time(stranger: Stranger, config: Path) -> None:
    fill(stranger)
    _, out, _ = run(config, stranger.table, "--key", "/b|")
    assert [row[:3] for row in cells(out)] == [[START, "partial", "4"], ["2026-11-23T08:10:00Z", "-", "5"]]
    _, out, _ = run(config, stranger.table, "--key", "/b|", "--since", str(T0 + 1))
    assert len(cells(out)) == 1
    assert as_json(config, stranger.table, "--key", "/never")["windows"] == []


def test_a_table_of_another_is_shown_as_such_and_its_counts_are_not(stranger: Stranger, config: Path) -> None:
    fill(stranger, app_id="other")
    code, out, _ = run(config)
    assert code == 0
    assert "app other" in out
    assert "not what this configuration counts" in out
    code, out, err = run(config, stranger.table)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "app other" in err


def test_a_missing_table_says_so(stranger: Stranger, config: Path) -> None:
    code, out, err = run(config, stranger.table)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert f"HBase table recount_{stranger.table}_windows: doesn't exist" in err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nope",), '"nope" is in no [[tables]]'),
        (("T", "--since", "yesterday"), "it isn't a time"),
        (("T", "--since", "20", "--until", "10"), "isn't before"),
        (("T", "--window", "1"), "no window starts there"),
        (("--window", "0"), "name the table"),
        (("Tp", "--key", "x"), "JSON array of 2 parts"),
    ],
)
def test_wrong_questions(stranger: Stranger, config: Path, arguments: tuple[str, ...], text: str) -> None:
    fill(stranger)
    pairs = Stranger(stranger.address, f"{stranger.table}p")
    pairs.make_tables()
    pairs.close()
    named = [f"{stranger.table}{one[1:]}" if one in ("T", "Tp") else one for one in arguments]
    code, out, err = run(config, *named)
    assert (code, out) == (ExitCode.CONFIG, "")
    assert text in err


def test_a_damaged_row_is_named(stranger: Stranger, config: Path) -> None:
    fill(stranger)
    stranger.windows.put(b"%015d" % T0, {b"c:w0": b"short"}, timestamp=2**50)
    code, out, err = run(config, stranger.table)
    assert (code, out) == (ExitCode.REFUSED, "")
    assert f"row b'00{T0}'" in err


def test_hbase_away(tmp_path: Path) -> None:
    (tmp_path / "recount.toml").write_text(config_text("t", "127.0.0.1:1"))
    for arguments in ((), ("t",), ("t", "--window", "0")):
        code, out, err = run(tmp_path / "recount.toml", *arguments)
        assert (code, out) == (ExitCode.UNREACHABLE, "")
        assert "127.0.0.1:1" in err
        assert "sinks.hbase.thrift" in err


def test_without_the_sink_the_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "recount.toml").write_text(config_text("t", None))
    code, _, err = run(tmp_path / "recount.toml")
    assert code == ExitCode.CONFIG
    assert 'sinks.hbase: missing; add [sinks.hbase] with thrift = ["HOST:PORT"]' in err
