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

from app.cli_errors import ExitCode
from app.cli_options import DEFAULT_CONFIG, ConfigFile
from domain.errors import ConfigError, DependencyError

DEADLINE_S = 10.0
TOKEN_VARIABLE = "RECOUNT__WEB__TOKEN"  # noqa: S105 - a name
COUNTS = ("count", "on_time", "late")
PARTITION = ("topic", "partition", "worker", "state", "next_offset", "lag", "archive_next_offset")
SHORT = {"archive_next_offset": "archived to"}
STORED = ("partition", "next_offset", "stream_time", "archive_next_offset")


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
    config: ConfigFile = DEFAULT_CONFIG,
    url: Annotated[str, typer.Option(envvar="RECOUNT_URL", help="Any worker.")] = "http://127.0.0.1:6066",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Holds the token; or set {TOKEN_VARIABLE}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as it is.")] = False,
) -> None:
    if table is None and (window or key):
        raise ConfigError("TABLE", "missing", "name the table the window or key belongs to")
    if window is not None and key is not None:
        raise ConfigError("--window", "excludes --key", "ask for one of them; --since and --until limit a key")
    if source is Source.HBASE:
        from app.cli_inspect_hbase import Question, ask_hbase

        body = ask_hbase(config, Question(table, window, key, since, until, top))
        _print(body, as_json=as_json)
        raise typer.Exit
    path, query = _route(table, window, key, {"from": since, "to": until}, top)
    body = fetch(url, path, query, _token(token_file))
    _print(body, as_json=as_json)
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


def _print(body: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(body, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if "top" in body:
        _show_window(body, console)
    elif "windows" in body:
        names = _counts(body["windows"])
        sources = ("source",) if any(row.get("source") == Source.HBASE for row in body["windows"]) else ()
        rows = [[row["start"], _flags(row), *(row.get(name) for name in (*sources, *names))] for row in body["windows"]]
        console.print(_table(("window", "state", *sources, *names), rows))
        for start in body.get("dropped", ()):
            console.print(Text(f"gone from the state: {start}"))
    elif "tables" in body:
        for one in body["tables"]:
            _show_stored(one, console)
    else:
        rows = body["partitions"]
        names = (*PARTITION, "hbase_lag") if any(row.get("hbase_lag") is not None for row in rows) else PARTITION
        console.print(_table(names, [[row.get(name) for name in names] for row in rows]))


def _show_window(body: Any, console: Console) -> None:
    one, names = body["window"], _counts(body["top"])
    source = ", keys from HBase" if body.get("source") == Source.HBASE else ""
    text = f"{body['table']} {one['start']}: {_flags(one)}, {one['count']} events, {one['late']} late{source}"
    console.print(Text(text))
    console.print(_table(("key", *names), [[_key(row), *(row.get(name) for name in names)] for row in body["top"]]))
    if not body["top_exact"]:
        console.print(Text(f"a key not listed may have up to {body['top_unseen_max']}"))


def _show_stored(one: Any, console: Console) -> None:
    """A table as HBase holds it."""
    owner = one["owner"]
    if owner is None:
        console.print(Text(f"{one['name']}: nothing in HBase yet"))
        return
    whose = "" if one["ours"] else ", not what this configuration counts"
    names = ", ".join(f"{name.replace('_', ' ')} {owner[name]}" for name in ("app", "topic", "fingerprint", "table_id"))
    console.print(Text(printable(f"{one['name']}: {names}{whose}")))
    console.print(_table(STORED, [[row[name] for name in STORED] for row in one["partitions"]]))


def _counts(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return (*COUNTS, "expired") if any("expired" in row for row in rows) else COUNTS


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    shown = Table()
    for name in names:
        header = SHORT.get(name, name.replace("_", " "))
        shown.add_column(header, overflow="fold", min_width=max(map(len, header.split())))
    for row in rows:
        shown.add_row(*(Text("-" if value is None else printable(str(value))) for value in row))
    return shown


def printable(text: str) -> str:
    """The text with control characters spelled out: keys come from strangers and could steer the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _key(row: Mapping[str, str]) -> str:
    return row["key"] if "key" in row else f"base64:{row['key_base64']}"


def _flags(row: Mapping[str, Any]) -> str:
    """HBase knows no idle partitions, so it tells no state."""
    flags = [row["state"]] if "state" in row else []
    flags += [name for name in ("partial", "dropped") if row.get(name)]
    return ", ".join(flags) or "-"


def _complete(body: Any) -> ExitCode:
    if body.get("complete", True):
        return ExitCode.OK
    why = body["missing_why"]
    named = {str(one): why.get(str(one), "no answer") for one in body["missing"]}
    lines = [f"  {one}: {printable(reason)}" for one, reason in {**named, **why}.items()]
    text = "\n".join(["incomplete, this is missing:", *lines])
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style="yellow"))
    return ExitCode.FINDING
