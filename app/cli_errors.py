"""Errors on a terminal: a short text on stderr and an exit code, both decided here."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from domain.errors import (
    ConfigError,
    CorruptRowError,
    DependencyError,
    DiskError,
    FencedError,
    RecountError,
    RefusedError,
    RetriableError,
)


class ExitCode(IntEnum):
    OK = 0
    FINDING = 1
    CONFIG = 2
    UNREACHABLE = 3
    REFUSED = 4
    BUG = 70
    INTERRUPTED = 130


CODES: tuple[tuple[type[RecountError], ExitCode], ...] = (
    (ConfigError, ExitCode.CONFIG),
    (DependencyError, ExitCode.UNREACHABLE),
    (DiskError, ExitCode.UNREACHABLE),
    (RetriableError, ExitCode.UNREACHABLE),
    (RefusedError, ExitCode.REFUSED),
    (FencedError, ExitCode.REFUSED),
    (CorruptRowError, ExitCode.REFUSED),
)


class NotAvailableError(ConfigError):
    """A command or option of the grammar whose part this version doesn't have."""

    def __init__(self, what: str, instead: str = "") -> None:
        super().__init__(what, "not available in this version", instead)

    def __str__(self) -> str:
        return f"not available in this version: {self.setting}" + (f"; {self.fix}" if self.fix else "")


class ErrorGroup(TyperGroup):
    """Commands whose domain errors end in a message instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RecountError as err:
            code = exit_code(err)
            if code is ExitCode.BUG:
                raise
            print_error(err)
            raise typer.Exit(code) from err


def exit_code(err: RecountError) -> ExitCode:
    """What the process ends with for this error."""
    return next((code for kind, code in CODES if isinstance(err, kind)), ExitCode.BUG)


def print_error(err: RecountError) -> None:
    text = Text()
    if isinstance(err, RefusedError):
        text.append("refused: ", "bold red").append(f"{err.what}\n  why: {err.why}\n  fix: {err.fix}")
    elif isinstance(err, DependencyError):
        text.append("error: ", "bold red").append(f"{err.server}: {err.reason}; {err.fix}")
    else:
        text.append("error: ", "bold red").append(str(err))
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)
