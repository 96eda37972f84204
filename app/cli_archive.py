"""`recount archive`: look at the archive's files, without Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli_options import DEFAULT_CONFIG, ConfigFile
from domain.errors import ConfigError, DependencyError, SinkUnavailableError

if TYPE_CHECKING:
    from sinks.archive.fs import FileStatus, FileSystem

FOLDER_STATES = {"_open": "open", "_torn": "torn", "_ledger": "ledger"}


def list_files(
    config: ConfigFile = DEFAULT_CONFIG,
    topic: Annotated[list[str] | None, typer.Option(metavar="TOPIC", help="Only this topic; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also ledgers and torn files.")] = False,
) -> None:
    """Print state, bytes and path of each file, with tabs between, oldest window first."""
    from app.config import load_config
    from sinks.archive.fs import open_file_system

    settings = load_config(config)
    archive = settings.sinks.archive
    if archive is None:
        raise ConfigError("sinks.archive", "missing", 'add [sinks.archive] with url = "file:///…" or "hdfs://…"')
    known = [one.name for one in settings.topics]
    for name in topic or ():
        if name not in known:
            raise ConfigError("--topic", f'"{name}" is in no [[topics]]', f"known: {', '.join(known)}")
    files, root = open_file_system(archive.url)
    try:
        for name in topic or known:
            for state, file in walk(files, f"{root}/{name}"):
                if everything or state in ("committed", "open"):
                    typer.echo(f"{state}\t{file.length}\t{file.path}")
    except SinkUnavailableError as err:
        raise DependencyError(f"archive {archive.url}", err.reason, "start it, or correct sinks.archive.url") from err


def walk(files: FileSystem, folder: str, state: str = "committed") -> Iterator[tuple[str, FileStatus]]:
    """Every file below a topic's folder with its state, in the order of the names."""
    for entry in files.list(folder):
        inner = FOLDER_STATES.get(entry.name, state)
        if entry.is_dir:
            yield from walk(files, entry.path, inner)
        else:
            yield inner, entry
