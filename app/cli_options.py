"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="RECOUNT_CONFIG", metavar="FILE", help="The configuration, a TOML file."),
]
DEFAULT_CONFIG = Path("recount.toml")

Table = Annotated[str, typer.Option("--table", metavar="TABLE", help="The table, as [[tables]] names it.")]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="First window start, UTC (ISO 8601).")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="End of the range, exclusive, UTC (ISO 8601).")]


class Victim(StrEnum):
    """What the demo kills with -9."""

    WORKER = "worker"
    THRIFT = "thrift"
    DATANODE = "datanode"
