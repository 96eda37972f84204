"""Commands of the grammar whose part this version doesn't have: they say so and exit 2."""

# ruff: noqa: ARG001 - the options are the grammar; nothing reads them yet

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from app.cli_errors import NotAvailableError
from app.cli_options import DEFAULT_CONFIG, ConfigFile, From, Table, To

LATER = " [dim](not in this version)[/dim]"


class Step(StrEnum):
    SEAL = "seal"
    AUDIT = "audit"
    REPAIR = "repair"


def replay(
    table: Table,
    config: ConfigFile = DEFAULT_CONFIG,
    from_time: From = None,
    to_time: To = None,
    steps: Annotated[str, typer.Option(metavar="STEPS", help="Which steps, with commas between.")] = ",".join(Step),
) -> None:
    raise NotAvailableError("recount replay")


def audit(table: Table, config: ConfigFile = DEFAULT_CONFIG, from_time: From = None, to_time: To = None) -> None:
    raise NotAvailableError("recount audit")


def archive_cat(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Paths below the archive's root.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    raise NotAvailableError("recount archive cat")


def archive_verify(
    config: ConfigFile = DEFAULT_CONFIG,
    topic: Annotated[str | None, typer.Option(help="Only this topic.")] = None,
) -> None:
    raise NotAvailableError("recount archive verify")


def register(app: typer.Typer, archive: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(help="Recount windows from the archive with Spark: seal, audit, repair." + LATER)(replay)
    app.command(help="Compare archive, certificates and stores; change nothing." + LATER)(audit)
    archive.command("cat", help="Print records of archive files." + LATER)(archive_cat)
    archive.command("verify", help="Prove the files complete against their ledger." + LATER)(archive_verify)
