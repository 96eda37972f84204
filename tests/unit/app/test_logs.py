from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

from app.logs import LogFormat, LogLevel, configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_a_line_is_json_with_time_level_and_logger() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger("agents.count").info("assigned", topic="clicks", partition=3)
    (line,) = lines(stream)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "message": "assigned",
        "level": "info",
        "logger": "agents.count",
        "topic": "clicks",
        "partition": 3,
    }


def test_on_a_terminal_a_line_is_text_unless_json_is_asked_for() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    structlog.get_logger("x").info("assigned", partition=3)
    assert "assigned" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    stream = Terminal()
    configure_logging(log_format=LogFormat.JSON, stream=stream)
    structlog.get_logger("x").info("assigned")
    assert lines(stream)[0]["message"] == "assigned"


def test_libraries_are_heard_from_warning_on_in_the_same_form() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    for name in ("faust.app", "mode", "aiokafka.consumer", "uvicorn.access"):
        logging.getLogger(name).info("noise")
        logging.getLogger(name).warning("heard %s", name)
    logging.getLogger("other").info("ours")
    assert [line["message"] for line in lines(stream)] == [
        "heard faust.app",
        "heard mode",
        "heard aiokafka.consumer",
        "heard uvicorn.access",
        "ours",
    ]


def test_level_is_the_least_severity_and_debug_opens_the_libraries() -> None:
    stream = io.StringIO()
    configure_logging(LogLevel.WARNING, stream=stream)
    structlog.get_logger("x").info("no")
    structlog.get_logger("x").warning("yes")
    assert [line["message"] for line in lines(stream)] == ["yes"]
    stream = io.StringIO()
    configure_logging(LogLevel.DEBUG, stream=stream)
    logging.getLogger("aiokafka").debug("detail")
    assert [line["message"] for line in lines(stream)] == ["detail"]
    configure_logging(stream=io.StringIO())


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_no_secret_is_logged(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(log_format=log_format, stream=stream)
    log = structlog.get_logger("x")
    log.info("a", password="hunter2", web_token="hunter2", headers={"Authorization": "Bearer hunter2"})
    log.info("b", url="redis://user:hunter2@host:1/0", secret=SecretStr("hunter2"))
    log.info("c", settings=[{"state": {"password": "hunter2"}}])
    logging.getLogger("redis").warning("lost redis://:hunter2@host")
    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 5


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_a_traceback_is_kept_without_local_variables(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(log_format=log_format, stream=stream)

    def fail(opened: str) -> None:
        raise ValueError(len(opened))

    try:
        fail("hunter" + str(len("ab")))
    except ValueError:
        structlog.get_logger("x").exception("broke")
    assert "ValueError: 7" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_warnings_of_python_are_log_lines() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in str(lines(stream)[0]["message"])
