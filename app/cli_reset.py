"""`recount reset` and `recount rescan`: say what will happen, ask, do it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.table import Table as Shown
from rich.text import Text

from app.cli_errors import ExitCode
from app.cli_options import DEFAULT_CONFIG, ConfigFile, Table
from domain.errors import ConfigError

if TYPE_CHECKING:
    from app.reset import Step
    from app.reset_plan import Plan

WILL = """\
workers will write every count of {table} that is in their state to HBase again, and go on counting.
Rows of windows that are gone from the state stay as they are."""
ASKED = """\
asked for: a worker begins at its next put (sinks.hbase.interval), one that isn't running now when it starts.
To watch: recount_hbase_rescans_total goes up by one for each partition; it is done once hbase_lag in
/api/v1/partitions (recount_hbase_lag_offsets) is small again."""

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def reset(
    table: Annotated[
        str | None, typer.Option("--table", metavar="TABLE", help="The table; its topic's others stay as they are.")
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(
            "--topic",
            metavar="TOPIC",
            help="Without --table: all tables of the topic, and its archive is moved aside. "
            "With it: where a table was counted that is configured no more.",
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    yes: Yes = False,
) -> None:
    from app.config import load_config, refuse_inactive
    from app.transport.admin import quiet_client_log

    if table is None and topic is None:
        raise typer.BadParameter("name a table with --table, or a whole topic with --topic")
    settings = load_config(config)
    refuse_inactive(settings)
    quiet_client_log()

    from app.reset import Reset

    with _progress() as doing:
        work = Reset(settings, doing)
        plan = asyncio.run(work.plan(table, topic))
    console = Console(highlight=False, soft_wrap=True)
    if plan.empty:
        console.print(Text(f"nothing to reset: there is no state of {table or topic}"))
        return
    show(console, plan)
    if not confirmed(yes, "Take this away?", console):
        raise typer.Exit(ExitCode.FINDING)
    with _progress() as doing:
        work.tell(doing)
        moved = asyncio.run(work.run(plan, _unnoticed))
    what = f"topic {plan.topic}" if plan.whole else f"table {table}"
    console.print(Text(f"{what} is reset: the next worker begins at the configured start"))
    if moved is not None:
        console.print(Text(f"the old archive is {moved}"))


def rescan(table: Table, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    from app.config import load_config
    from app.rescan import ask_for_rescan, look

    settings = load_config(config)
    console = Console(highlight=False, soft_wrap=True)
    claimant = look(settings, table)
    if claimant is None:
        console.print(Text(f"nothing to do: HBase has no tables of {table} yet; workers make and fill them"))
        return
    console.print(Text(WILL.format(table=table)))
    if not confirmed(yes, "Go on?", console):
        raise typer.Exit(ExitCode.FINDING)
    ask_for_rescan(settings, claimant)
    console.print(Text(ASKED))


def show(console: Console, plan: Plan) -> None:
    """What goes, and what stays."""
    from app.reset_plan import others_of, rows_of, staying_of

    right = [Column(name, justify="right") for name in ("cells", "windows", "counted to")]
    shown = Shown("partition", "table", *right)
    rows = list(rows_of(plan))
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(Text("what goes:"))
    if rows:
        console.print(shown)
    for line in others_of(plan):
        console.print(Text(f"  {line}"))
    if staying := staying_of(plan):
        console.print(Text(staying))


def confirmed(yes: bool, question: str, console: Console) -> bool:
    """Raises `ConfigError` where there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("--yes", "missing, and there is no terminal to ask on", "add --yes to go on without asking")
    if typer.confirm(question, default=False):
        return True
    console.print(Text("nothing was changed"))
    return False


def _unnoticed(_: Step) -> None:
    pass


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking Kafka", total=None)
        yield lambda text: bar.update(task, description=text)
