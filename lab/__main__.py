"""`python -m lab`: a lab that stays up in the background, for work by hand."""

import subprocess
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from lab import detached, jars
from lab.errors import LabError, NotReadyError, tail_of
from lab.hdfs import probe_files
from lab.kafka import probe_cluster
from lab.lab import Lab
from lab.probe_hbase import probe_thrift
from lab.redis import probe_redis

PROBES: dict[str, Callable[[str], None]] = {
    "kafka": probe_cluster,
    "hdfs": probe_files,
    "hbase": probe_thrift,
    "redis": probe_redis,
}

cli = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@cli.command()
def up(
    names: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(Lab.NAMES)}; all unless named")] = None,
    brokers: Annotated[int, typer.Option(help="Kafka brokers: 1 or 3")] = 1,
) -> None:
    """Start servers in the background and print their addresses."""
    for name, address in detached.up(names or Lab.NAMES, brokers).addresses.items():
        print(f"{name:8} {address}")


@cli.command()
def down() -> None:
    """Stop the servers and remove their data."""
    print("the lab is down" if detached.down() else "no lab was up")


@cli.command()
def status() -> None:
    """Send each server a real request; exits with 1 unless all answer."""
    state = _state()
    serving = state.holder.lives
    for name, address in state.addresses.items():
        try:
            PROBES[name](address)
        except NotReadyError as reason:
            serving = False
            print(f"{name:8} not serving: {reason}")
        else:
            print(f"{name:8} serving at {address}")
    for name, process in state.servers.items():
        print(f"  {name:16} pid {process.pid:<8} {'' if process.lives else 'gone '}{state.log_path(name)}")
    if not serving:
        raise typer.Exit(1)


@cli.command()
def logs(
    name: Annotated[str, typer.Argument(help="a server as status names it, such as kafka-1")],
    lines: Annotated[int, typer.Option("-n", "--lines")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with new lines until Ctrl-C")] = False,
) -> None:
    """Print the end of a server's log."""
    state = _state()
    if name not in state.servers:
        raise LabError(f"no server {name}; there is {', '.join(state.servers)}")
    if follow:
        subprocess.run(["tail", "-n", str(lines), "-F", str(state.log_path(name))], check=False)
    else:
        print("\n".join(tail_of(state.log_path(name), lines)))


@cli.command()
def fetch(names: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Fetch and check the jars without starting anything."""
    for name in names or list(jars.JAR_SETS):
        print(jars.ensure(name))


@cli.command()
def lock() -> None:
    """Write the list of jars and their sha256 anew, after a change of the poms."""
    jars.lock()
    print(f"wrote {jars.LIST}")


def _state() -> detached.State:
    state = detached.read_state()
    if state is None:
        raise LabError("no lab is up")
    return state


def main() -> None:
    try:
        cli()
    except LabError as error:
        sys.exit(f"lab: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
