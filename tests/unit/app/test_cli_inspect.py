from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from app.cli_errors import ExitCode
from tests.unit.app.test_cli import run

WINDOW = {
    "start": "2026-11-23T08:00:00Z",
    "state": "closed",
    "partial": True,
    "count": 12,
    "on_time": 10,
    "late": 2,
    "expired": 1,
}
ANSWERS: dict[str, Any] = {
    "/api/v1/partitions": {
        "complete": True,
        "missing": [],
        "missing_why": {},
        "partitions": [
            {
                "topic": "clicks",
                "partition": 0,
                "worker": "http://w:1",
                "state": "running",
                "next_offset": 99,
                "lag": None,
                "archive_next_offset": 90,
            }
        ],
    },
    "/api/v1/tables/page_views/windows": {"complete": True, "table": "page_views", "windows": [WINDOW]},
    "/api/v1/tables/page_views/windows/0?top=3": {
        "complete": False,
        "missing": [2],
        "missing_why": {"2": "restoring"},
        "table": "page_views",
        "window": WINDOW,
        "top": [{"key": "/a\x1b[2J", "count": 7, "on_time": 7, "late": 0}],
        "top_exact": False,
        "top_unseen_max": 4,
    },
    "/api/v1/tables/page_views/keys/%2Fa%20b?from=0": {
        "complete": True,
        "windows": [{name: WINDOW[name] for name in WINDOW if name != "expired"}],
    },
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[urllib.request.Request]:
    requests: list[urllib.request.Request] = []

    def urlopen(request: urllib.request.Request, timeout: float) -> io.BytesIO:
        requests.append(request)
        path = request.full_url.removeprefix("http://127.0.0.1:6066")
        if path not in ANSWERS:
            body = io.BytesIO(
                json.dumps({"error": {"what": "unknown table", "why": "known: x", "fix": "name it"}}).encode()
            )
            code = 404 if "nope" in path else 503 if "down" in path else 401
            raise urllib.error.HTTPError(request.full_url, code, "no", Message(), body)
        return io.BytesIO(json.dumps(ANSWERS[path]).encode())

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return requests


def test_without_a_table_partitions_are_listed(asked: list[urllib.request.Request]) -> None:
    code, out, err = run("inspect")
    assert (code, err) == (0, "")
    assert "http://w:1" in out
    assert "running" in out


def test_windows_and_keys(asked: list[urllib.request.Request]) -> None:
    code, out, _ = run("inspect", "page_views")
    assert code == 0
    assert "closed, partial" in out
    code, out, _ = run("inspect", "page_views", "--key", "/a b", "--since", "0")
    assert code == 0
    assert "12" in out


def test_an_incomplete_answer_is_a_finding_and_keys_cannot_steer_the_terminal(
    asked: list[urllib.request.Request],
) -> None:
    code, out, err = run("inspect", "page_views", "--window", "0", "--top", "3")
    assert code == ExitCode.FINDING
    assert "2: restoring" in err
    assert "\x1b" not in out
    assert "up to 4" in out


def test_partitions_with_hbase_show_its_lag(
    asked: list[urllib.request.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "hbase lag" not in run("inspect", env={"COLUMNS": "150"})[1]
    (one,) = ANSWERS["/api/v1/partitions"]["partitions"]
    monkeypatch.setitem(ANSWERS, "/api/v1/partitions", {"complete": True, "partitions": [{**one, "hbase_lag": 4321}]})
    _, out, _ = run("inspect", env={"COLUMNS": "150"})
    assert "hbase lag" in out
    assert "4321" in out


def test_keys_from_hbase_are_shown_as_such(
    asked: list[urllib.request.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    top = {
        "complete": False,
        "missing": [],
        "missing_why": {"hbase": "its keys add up to less"},
        "source": "hbase",
        "table": "page_views",
        "window": {**WINDOW, "dropped": True},
        "top": [{"key": "/a", "count": 9, "on_time": 7, "late": 0, "expired": 2}],
        "top_exact": True,
        "top_unseen_max": 0,
    }
    monkeypatch.setitem(ANSWERS, "/api/v1/tables/page_views/windows/0?top=50", top)
    code, out, err = run("inspect", "page_views", "--window", "0", env={"COLUMNS": "120"})
    assert code == ExitCode.FINDING
    assert "closed, partial, dropped, 12 events, 2 late, keys from HBase" in out
    assert "expired" in out
    assert "hbase: its keys add up to less" in err


def test_a_series_tells_rows_from_hbase_and_windows_nobody_could_tell(
    asked: list[urllib.request.Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {name: WINDOW[name] for name in ("start", "state", "partial", "count", "on_time", "late")}
    rows = [{**row, "source": "hbase", "expired": 5}, {**row, "source": "state"}]
    answer = {"complete": True, "windows": rows, "dropped": [600_000]}
    monkeypatch.setitem(ANSWERS, "/api/v1/tables/page_views/keys/k", answer)
    _, out, _ = run("inspect", "page_views", "--key", "k", env={"COLUMNS": "120"})
    shown = [[one.strip() for one in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [(line[2], line[-1]) for line in shown] == [("hbase", "5"), ("state", "-")]
    assert "gone from the state: 600000" in out


def test_json_is_the_answer_itself(asked: list[urllib.request.Request]) -> None:
    code, out, _ = run("inspect", "page_views", "--json")
    assert code == 0
    assert json.loads(out) == ANSWERS["/api/v1/tables/page_views/windows"]


def test_the_token_comes_from_a_variable_or_a_file(asked: list[urllib.request.Request], tmp_path: Path) -> None:
    run("inspect", env={"RECOUNT__WEB__TOKEN": "abc"})
    (tmp_path / "token").write_text("def\n")
    run("inspect", "--token-file", str(tmp_path / "token"))
    assert [request.get_header("Authorization") for request in asked] == ["Bearer abc", "Bearer def"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nope"], ExitCode.CONFIG, "unknown table: known: x; name it"),
        (["down"], ExitCode.UNREACHABLE, "worker at http://127.0.0.1:6066"),
        (["secret"], ExitCode.CONFIG, "set RECOUNT__WEB__TOKEN or --token-file"),
        (["--window", "0"], ExitCode.CONFIG, "name the table"),
        (["t", "--window", "0", "--key", "a"], ExitCode.CONFIG, "excludes --key"),
        (["--url", "ftp://x"], ExitCode.CONFIG, "wants http://host:port"),
    ],
)
def test_refusals(asked: list[urllib.request.Request], arguments: list[str], code: int, text: str) -> None:
    got, out, err = run("inspect", *arguments)
    assert (got, out) == (code, "")
    assert text in err


def test_no_worker_is_a_dependency_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    code, _, err = run("inspect")
    assert code == ExitCode.UNREACHABLE
    assert "start a worker" in err
