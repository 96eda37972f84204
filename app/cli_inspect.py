"""`recount inspect`: the HTTP answers of a running worker, as tables on the terminal."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli_errors import ExitCode, NotAvailableError
from domain.errors import ConfigError, DependencyError

DEADLINE_S = 10.0
TOKEN_VARIABLE = "RECOUNT__WEB__TOKEN"  # noqa: S105 - a name
COUNTS = ("count", "on_time", "late")


class Source(StrEnum):
    WORKER = "worker"
    HBASE = "hbase"


def inspect(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Without it: tables and partitions.")] = None,
    window: Annotated[str | None, typer.Option(metavar="START", help="One window's largest keys.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="One key over time.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How many keys of a window.")] = 50,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="First window start: ISO 8601 or ms.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="End of the range, exclusive.")] = None,
    source: Annotated[Source, typer.Option("--from", help="Where the counts are read.")] = Source.WORKER,
    url: Annotated[str, typer.Option(envvar="RECOUNT_URL", help="Any worker.")] = "http://127.0.0.1:6066",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Holds the token; or set {TOKEN_VARIABLE}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the worker's answer as it is.")] = False,
) -> None:
    if source is Source.HBASE:
        raise NotAvailableError("recount inspect --from hbase")
    if table is None and (window or key):
        raise ConfigError("TABLE", "missing", "name the table the window or key belongs to")
    if window is not None and key is not None:
        raise ConfigError("--window", "excludes --key", "ask for one of them; --since and --until limit a key")
    path, query = _route(table, window, key, {"from": since, "to": until}, top)
    body = fetch(url, path, query, _token(token_file))
    if as_json:
        typer.echo(json.dumps(body, ensure_ascii=False))
    else:
        _show(body, Console(highlight=False))
    raise typer.Exit(_complete(body))


def fetch(url: str, path: str, query: Mapping[str, str | int | None], token: str | None) -> Any:
    """The decoded answer of a worker. Raises `ConfigError` for a wrong question, `DependencyError` without answer."""
    if not url.startswith(("http://", "https://")):
        raise ConfigError("--url", f'got "{url}", wants http://host:port')
    asked = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
    request = urllib.request.Request(f"{url.rstrip('/')}{path}" + (f"?{asked}" if asked else ""))  # noqa: S310 - http(s)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    fix = "start a worker, or name another with --url"
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310 - http(s)
            return json.loads(answer.read())
    except urllib.error.HTTPError as err:
        with err:
            raise _refusal(url, err) from err
    except (OSError, ValueError) as err:
        reason = getattr(err, "reason", None) or str(err) or "no answer"
        raise DependencyError(f"worker at {url}", str(reason), fix) from err


def _refusal(url: str, err: urllib.error.HTTPError) -> ConfigError | DependencyError:
    try:
        problem = json.loads(err.read())["error"]
        what, why, fix = problem["what"], problem["why"], problem["fix"]
    except (ValueError, KeyError, TypeError):
        what, why, fix = f"HTTP {err.code}", str(err.reason), ""
    if err.code == 401:
        fix = f"set {TOKEN_VARIABLE} or --token-file"
    if err.code >= 500:
        return DependencyError(f"worker at {url}", f"{what}: {why}", fix)
    return ConfigError(what, why, fix)


def _route(
    table: str | None, window: str | None, key: str | None, span: Mapping[str, str | None], top: int
) -> tuple[str, Mapping[str, str | int | None]]:
    if table is None:
        return "/api/v1/partitions", {}
    base = f"/api/v1/tables/{urllib.parse.quote(table, safe='')}"
    if window is not None:
        return f"{base}/windows/{urllib.parse.quote(window, safe='')}", {"top": top}
    if key is not None:
        return f"{base}/keys/{urllib.parse.quote(key, safe='')}", span
    return f"{base}/windows", span


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE)
    from app.config import read_secret

    return read_secret("--token-file", None, file)


def _show(body: Any, console: Console) -> None:
    if "top" in body:
        one = body["window"]
        console.print(Text(f"{body['table']} {one['start']}: {_flags(one)}, {one['count']} events, {one['late']} late"))
        console.print(_table(("key", *COUNTS), [[_key(row), *(row[name] for name in COUNTS)] for row in body["top"]]))
        if not body["top_exact"]:
            console.print(Text(f"a key not listed may have up to {body['top_unseen_max']}"))
    elif "windows" in body:
        extra = tuple(name for name in ("expired",) if any(name in row for row in body["windows"]))
        names = (*COUNTS, *extra)
        rows = [[row["start"], _flags(row), *(row[name] for name in names)] for row in body["windows"]]
        console.print(_table(("window", "state", *names), rows))
    else:
        names = ("topic", "partition", "worker", "state", "next_offset", "lag", "archive_next_offset")
        console.print(_table(names, [[row[name] for name in names] for row in body["partitions"]]))


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    shown = Table()
    for name in names:
        shown.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        shown.add_row(*(Text("-" if value is None else printable(str(value))) for value in row))
    return shown


def printable(text: str) -> str:
    """The text with control characters spelled out: keys come from strangers and could steer the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _key(row: Mapping[str, str]) -> str:
    return row["key"] if "key" in row else f"base64:{row['key_base64']}"


def _flags(row: Mapping[str, Any]) -> str:
    return f"{row['state']}, partial" if row["partial"] else str(row["state"])


def _complete(body: Any) -> ExitCode:
    if body.get("complete", True):
        return ExitCode.OK
    why = body["missing_why"]
    lines = [f"  {one}: {why.get(str(one), 'no answer')}" for one in body["missing"]]
    text = "\n".join(["incomplete, these partitions are missing:", *lines])
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style="yellow"))
    return ExitCode.FINDING
