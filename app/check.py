"""`recount check`: what a configuration means, and whether everything it leans on is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from app.check_hbase import probe_hbase
from app.check_probes import Finding, Mark, probe_archive, probe_data_dir, probe_secrets
from app.check_topics import probe_kafka
from app.cli_errors import ExitCode
from app.config import Config, Duration, inactive_settings, to_specs
from app.transport.admin import quiet_client_log
from domain.spec import TableSpec, TopicSpec, WhereRule, fingerprint

MARKS = {
    Mark.OK: ("✓", "green"),
    Mark.WARN: ("!", "yellow"),
    Mark.WRONG: ("✗", "red"),
    Mark.UNREACHABLE: ("✗", "red"),
}


def run_check(config: Config, *, offline: bool = False, console: Console | None = None) -> int:
    """Print the tables, the settings without effect and, unless `offline`, one line per probe; the exit code."""
    console = console or Console(highlight=False, soft_wrap=True)
    topics, tables = to_specs(config)
    console.print(Text(f"app {config.app.id}, instance {config.app.instance}"))
    console.print(_topics_table(topics))
    console.print(_tables_table(topics, tables))
    for found in inactive_settings(config):
        mark = Mark.WRONG if found.refuses else Mark.WARN
        _print(console, Finding(mark, f"{found.setting}: {found.reason}", found.refuses or "it has no effect"))
    refused = any(found.refuses for found in inactive_settings(config))
    if offline:
        return ExitCode.CONFIG if refused else ExitCode.OK
    quiet_client_log()
    findings = asyncio.run(_probe(config))
    for finding in findings:
        _print(console, finding)
    marks = {finding.mark for finding in findings}
    if refused or Mark.WRONG in marks:
        return ExitCode.CONFIG
    return ExitCode.UNREACHABLE if Mark.UNREACHABLE in marks else ExitCode.OK


async def _probe(config: Config) -> list[Finding]:
    groups = await asyncio.gather(
        probe_kafka(config), probe_hbase(config), probe_archive(config), probe_data_dir(config), probe_secrets(config)
    )
    return [finding for group in groups for finding in group]


def _print(console: Console, finding: Finding) -> None:
    sign, colour = MARKS[finding.mark]
    console.print(Text.assemble((f"{sign} ", colour), finding.text, f"; {finding.fix}" if finding.fix else ""))


def _topics_table(topics: tuple[TopicSpec, ...]) -> Table:
    shown = Table("topic", "event time", "max past", "max future", "archive window")
    for topic in topics:
        time = f"{topic.event_time.field} {topic.event_time.format}".strip()
        spans = (topic.max_past_ms, topic.max_future_ms, topic.archive_window_ms)
        shown.add_row(topic.name, time, *(str(Duration(span)) for span in spans))
    return shown


def _tables_table(topics: tuple[TopicSpec, ...], tables: tuple[TableSpec, ...]) -> Table:
    by_name = {topic.name: topic for topic in topics}
    shown = Table(Column("table", overflow="fold"), "counts", "times", Column("fingerprint", no_wrap=True))
    for table in tables:
        shown.add_row(*map(Text, (table.name, _counts(table), _times(table), fingerprint(by_name[table.topic], table))))
    return shown


def _counts(table: TableSpec) -> str:
    keys = (f"{part.field or 'Kafka key'} ({part.type})" for part in table.key)
    lines = [f"{table.topic} by {', '.join(keys)}", *(f"where {_rule(rule)}" for rule in table.where)]
    return "\n".join([*lines, f"once per {table.dedup}"] if table.dedup else lines)


def _times(table: TableSpec) -> str:
    spans = {"window": table.window_ms, "grace": table.grace_ms, "retention": table.retention_ms}
    lines = [f"{name} {Duration(span)}" for name, span in spans.items()]
    return "\n".join([*lines, f"from {_start(table.start_ms)}"])


def _rule(rule: WhereRule) -> str:
    if rule.allowed is not None:
        return f"{rule.field} in {list(rule.allowed)}"
    return f"{rule.field} {'present' if rule.exists else 'absent'}"


def _start(start_ms: int | None) -> str:
    if start_ms is None:
        return "earliest"
    return datetime.fromtimestamp(start_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
