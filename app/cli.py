"""The command line: `recount COMMAND`. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
import traceback
from importlib import metadata
from typing import Annotated

import typer

from app import cli_archive, cli_inspect, cli_later, cli_reset
from app.cli_errors import ErrorGroup, ExitCode
from app.cli_options import DEFAULT_CONFIG, ConfigFile, Victim
from app.logs import LogFormat, LogLevel

HELP = (
    "Counts Kafka events per key and event-time window, exactly once.\n\n"
    "Exit codes: 0 ok, 1 a finding, 2 usage or configuration, 3 a dependency is unreachable, 4 fenced or refused."
)

app = typer.Typer(
    name="recount",
    cls=ErrorGroup,
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
archive = typer.Typer(no_args_is_help=True, help="Look into the archive; reads files only.")
app.add_typer(archive, name="archive")

LevelOption = Annotated[LogLevel, typer.Option(help="Least severity logged.")]
FormatOption = Annotated[LogFormat, typer.Option(help="auto: JSON unless stderr is a terminal.")]


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"recount {metadata.version('recount')}")
        except metadata.PackageNotFoundError:
            typer.echo("recount (not installed)")
        raise typer.Exit


@app.callback()
def recount(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command(help="Count: run one worker until it is told to stop.")
def worker(
    config: ConfigFile = DEFAULT_CONFIG,
    accept_gap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RANGE",
            help="Go on past records that are gone from the source: topic-partition:first-last. That range only.",
        ),
    ] = None,
    log_level: LevelOption = LogLevel.INFO,
    log_format: FormatOption = LogFormat.AUTO,
) -> None:
    import structlog

    from app.config import inactive_settings, load_config, parse_gaps, refuse_inactive
    from app.logs import configure_logging

    settings = load_config(config)
    gaps = parse_gaps(accept_gap or (), settings)
    refuse_inactive(settings)
    configure_logging(log_level, log_format)
    log = structlog.get_logger("app.cli")
    for found in inactive_settings(settings):
        log.warning("setting has no effect", setting=found.setting, reason=found.reason)

    from app.supervisor import run_worker

    raise typer.Exit(run_worker(settings, accept_gaps=gaps))


@app.command(help="Read the configuration, show what it means, and try everything it leans on.")
def check(
    config: ConfigFile = DEFAULT_CONFIG,
    offline: Annotated[bool, typer.Option("--offline", help="Only the configuration; connect to nothing.")] = False,
) -> None:
    from app.check import run_check
    from app.config import load_config

    raise typer.Exit(run_check(load_config(config), offline=offline))


@app.command(help="Start servers here, count a made-up stream, kill a worker, and check the counts.")
def demo(
    exit_after: Annotated[bool, typer.Option("--exit", help="Stop after the check instead of serving on.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The last line of standard output is the result as JSON.")
    ] = False,
    embedded: Annotated[bool, typer.Option("--embedded", help="Archive to local files: no HDFS, no HBase.")] = False,
    kill: Annotated[Victim, typer.Option(help="What is killed with -9 midway.")] = Victim.WORKER,
    events: Annotated[int, typer.Option(min=1, metavar="N", help="How many events to count.")] = 1_000_000,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the data folder in place.")] = False,
) -> None:
    from app.demo import run_demo

    code = run_demo(exit_after=exit_after, as_json=as_json, embedded=embedded, events=events, keep=keep, victim=kill)
    raise typer.Exit(code)


@app.command(help="Send the lines of a file to a topic, one record each.")
def produce(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Newline-delimited records; - is standard input.")],
    topic: Annotated[str, typer.Option(help="The topic to send to.")],
    rate: Annotated[float | None, typer.Option(min=0.001, metavar="N", help="At most N records a second.")] = None,
    bootstrap_servers: Annotated[
        str, typer.Option(envvar="RECOUNT__KAFKA__BOOTSTRAP_SERVERS", metavar="HOST:PORT,…", help="Kafka.")
    ] = "127.0.0.1:9092",
    key_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="JSON field that becomes the Kafka key; dotted names go inside.")
    ] = None,
) -> None:
    from app.produce import run_produce

    raise typer.Exit(
        run_produce(file, topic=topic, bootstrap_servers=bootstrap_servers, rate=rate, key_field=key_field)
    )


app.command("inspect", help="Ask a running worker for counts.")(cli_inspect.inspect)
archive.command("ls", help="List the archive's files.")(cli_archive.list_files)
app.command("rescan", help="Let running workers write a table's counts to HBase again.")(cli_reset.rescan)
app.command("reset", help="Delete the state of a table, or of a topic, and start it over.")(cli_reset.reset)
cli_later.register(app, archive)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except Exception:  # noqa: BLE001 - the last frame: a bug keeps its traceback and has a code of its own
        traceback.print_exc()
        sys.exit(ExitCode.BUG)
