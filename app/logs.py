"""One log on stderr: JSON lines for machines, coloured text for a terminal; what libraries log goes the same way."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

SECRET_NAME = re.compile(r"password|passwd|secret|token$|authorization|api_?key", re.IGNORECASE)
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
NOISY = (
    # Faust's services log under the module of their subclass: ours.
    "app.transport.consumer",
    "app.transport.recovery",
    "app.transport.service",
    "aiokafka",
    "asyncio",
    "faust",
    "kafka",
    "mode",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.error",
)
MASK = "***"


class LogFormat(StrEnum):
    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure_logging(
    level: LogLevel = LogLevel.INFO, log_format: LogFormat = LogFormat.AUTO, stream: TextIO | None = None
) -> None:
    """Send every log line of this process to `stream` (stderr). May be called again.

    Libraries are heard from WARNING on, from DEBUG with `level` debug.
    """
    stream = sys.stderr if stream is None else stream
    as_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=last + (_json(stream) if as_json else _console(stream)),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    for name in NOISY:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.DEBUG if level is LogLevel.DEBUG else logging.WARNING)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide values whose name says secret, and credentials inside URLs, at any depth."""
    return {name: _masked(name, value) for name, value in event.items()}


def _masked(name: str, value: Any) -> Any:
    if SECRET_NAME.search(name) and value is not None:
        return MASK
    if isinstance(value, str):
        return CREDENTIALS.sub(MASK, value)
    if isinstance(value, Mapping):
        return {inner: _masked(str(inner), one) for inner, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_masked("", one) for one in value]
    return value


def _json(_stream: TextIO) -> list[Processor]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        mask_secrets,
        structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
    ]


def _console(stream: TextIO) -> list[Processor]:
    # Plain tracebacks: the pretty ones print local variables, and with them secrets.
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return [mask_secrets, renderer]
