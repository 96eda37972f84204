"""What the demo shows: a line per step with its time on stderr, then the tables."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from app.cli_options import Victim
from app.demo.kill import Killed
from app.demo.result import Result, WindowLine

FINDINGS_SHOWN = 20

Advance = Callable[[int], None]


class Screen:
    """Progress goes to stderr; the tables go to stdout unless that is kept for JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._out = Console(stderr=as_json, highlight=False)
        self._began = time.monotonic()
        self._meters = Progress(
            TextColumn("          {task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )

    @property
    def is_watched(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._err.is_terminal

    @contextlib.contextmanager
    def meters(self) -> Iterator[None]:
        """While it lasts, meters are drawn below the steps."""
        with self._meters:
            yield

    def meter(self, name: str, total: int) -> Advance:
        """A bar; the returned function sets how far it is."""
        task = self._meters.add_task(name, total=total)
        return lambda done: self._meters.update(task, completed=done)

    def step(self, text: str, style: str = "") -> None:
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", "dim").append(text, style or "default")
        self._meters.console.print(line)

    @contextlib.contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """A step that takes a while: said at its begin."""
        self.step(f"{text} …")
        with self._err.status(text):
            yield

    def fail(self, what: str, detail: str) -> None:
        self._err.print(Text("failed: ", "bold red").append(what, "default"))
        if detail:
            self._err.print(Text(detail, "dim"))

    def note(self, text: str) -> None:
        self._err.print(Text(text))

    def result(self, result: Result) -> None:
        self._out.print()
        self._out.print(_windows(result.windows))
        self._out.print(_totals(result))
        self._out.print(_outage(result.killed), soft_wrap=True)
        for finding in result.findings[:FINDINGS_SHOWN]:
            window = "" if finding.start_ms is None else f"{_clock(finding.start_ms)}: "
            self._out.print(Text("  ✗ ", "red").append(f"{window}{finding.what}", "default"), soft_wrap=True)
        if len(result.findings) > FINDINGS_SHOWN:
            self._out.print(f"  and {len(result.findings) - FINDINGS_SHOWN} more")
        verdict = "every number agrees" if result.agree else f"{len(result.findings)} things do not agree"
        self._out.print(Text(verdict, "bold green" if result.agree else "bold red"))

    def addresses(self, rows: Sequence[tuple[str, str]], asks: Sequence[str]) -> None:
        shown = Table.grid(padding=(0, 2))
        for name, address in rows:
            shown.add_row(Text(name, "bold"), Text(address))
        self._out.print()
        self._out.print(shown)
        self._out.print()
        for address in asks:
            self._out.print(Text(f"  curl -s {shlex.quote(address)}"), soft_wrap=True)
        self._out.print("\nAll of it stays up until Ctrl-C.")


def _windows(lines: Sequence[WindowLine]) -> Table:
    shown = Table(title="windows (UTC)", title_justify="left", box=box.SIMPLE, collapse_padding=True)  # 80 columns
    shown.add_column("window", no_wrap=True)
    in_hbase = any(line.hbase is not None for line in lines)
    for name in ("on time", "late", "expired", "live", "in state", "archived", *(["HBase"] if in_hbase else [])):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("agree", no_wrap=True)
    for line in lines:
        in_state = "dropped" if line.cells is None else _number(line.cells)
        counts = map(_number, (line.on_time, line.late, line.expired, line.live))
        hbase = [] if line.hbase is None else [_number(line.hbase)]
        shown.add_row(_clock(line.start_ms), *counts, in_state, _number(line.archived), *hbase, _mark(line.agree))
    return shown


def _totals(result: Result) -> Table:
    shown = Table(title="totals", title_justify="left", show_header=False)
    shown.add_column()
    shown.add_column(justify="right")
    shown.add_column()
    counted = result.on_time + result.late
    hbase = []
    if result.hbase_total is not None:
        hbase = [("HBase total", result.hbase_total, _equals(result.hbase_total == counted, "on time + late"))]
    for name, number, remark in (
        ("sent", result.sent, Text("acknowledged by Kafka")),
        ("on time", result.on_time, Text("by the oracle, from the topic")),
        ("late", result.late, Text("")),
        ("expired", result.expired, Text("")),
        ("malformed", result.malformed, Text("")),
        ("archive lines", result.archive_lines, Text("some twice after a kill")),
        ("distinct ids", result.archive_distinct_ids, _equals(result.archive_distinct_ids == result.sent, "sent")),
        ("live total", result.live_total, _equals(result.live_total == counted, "on time + late")),
        *hbase,
    ):
        shown.add_row(name, _number(number), remark)
    return shown


def _outage(killed: Killed) -> str:
    what = "records of its partitions" if killed.victim is Victim.WORKER else "records"
    text = (
        f"killed {killed.name} (pid {killed.pid}) with -9: away for {killed.down_s:.1f} s, "
        f"{_number(killed.counted_meanwhile)} {what} counted meanwhile"
    )
    return text + "".join(f"; {name} had to be started again" for name in killed.restarted)


def _equals(same: bool, what: str) -> Text:
    return _mark(same).append(f" {'=' if same else 'not'} {what}", "default")


def _mark(agree: bool) -> Text:
    return Text("✓", "green") if agree else Text("✗", "red")


def _number(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _clock(start_ms: int) -> str:
    return f"{datetime.fromtimestamp(start_ms / 1000, UTC):%H:%M}"
