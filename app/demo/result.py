"""The numbers the demo ends with, each measured where it says, and whether they agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.cli_options import Victim
from app.demo.hbase import Tables
from app.demo.kill import Killed
from app.demo.verdict import (
    Archived,
    Contents,
    Finding,
    Live,
    State,
    Truth,
    archive_findings,
    live_findings,
    state_findings,
    sum_tallies,
    window_sums,
)
from app.demo.verdict_hbase import Wanted, hbase_findings
from sinks.hbase.claim import Claimant


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that was read; the mappings are by partition."""

    acknowledged: int  # by Kafka to the producer
    ends: Mapping[int, int]
    topic: Mapping[int, Contents]
    truths: Mapping[int, Truth]
    states: Mapping[int, State]
    archived: Mapping[int, Archived]
    live: Live
    killed: Killed
    window_ms: int
    retention_ms: int
    hbase: Tables | None  # None: no HBase in this run
    claimant: Claimant


@dataclass(frozen=True, slots=True)
class WindowLine:
    """One window: what the oracle counts, and beside it what was found."""

    start_ms: int
    on_time: int
    late: int
    expired: int
    live: int
    cells: int | None  # None: dropped, as the window has expired
    archived: int
    hbase: int | None
    agree: bool


@dataclass(frozen=True, slots=True)
class Result:
    sent: int
    on_time: int
    late: int
    expired: int
    malformed: int
    archive_lines: int
    archive_distinct_ids: int
    live_total: int
    hbase_total: int | None
    killed: Killed
    windows: Sequence[WindowLine]
    findings: Sequence[Finding]

    @property
    def agree(self) -> bool:
        return not self.findings

    def to_json(self) -> str:
        return json.dumps(
            {
                "sent": self.sent,
                "on_time": self.on_time,
                "late": self.late,
                "expired": self.expired,
                "malformed": self.malformed,
                "archive_distinct_ids": self.archive_distinct_ids,
                "hbase_total": self.hbase_total,
                "live_total": self.live_total,
                "victim": self.killed.victim,
                "killed": self.killed.pid,
                "outage": self.killed.to_dict(),
                "agree": self.agree,
            }
        )


def judge(measured: Measured) -> Result:
    """Compare everything with everything."""
    truths = [truth for _, truth in sorted(measured.truths.items())]
    tallies = sum_tallies(truths)
    distinct = sum(one.distinct() for one in measured.archived.values())
    findings = _findings(measured, tallies, distinct)
    return Result(
        sent=measured.acknowledged,
        on_time=tallies.get("on_time", 0),
        late=tallies.get("late", 0),
        expired=tallies.get("expired", 0),
        malformed=tallies.get("malformed", 0),
        archive_lines=sum(len(one.slots) for one in measured.archived.values()),
        archive_distinct_ids=distinct,
        live_total=measured.live.total,
        hbase_total=None if measured.hbase is None else measured.hbase.total,
        killed=measured.killed,
        windows=_windows(measured, truths, {one.start_ms for one in findings}),
        findings=findings,
    )


def failure_json(sent: int | None, pid: int | None, victim: Victim, error: str) -> str:
    """The same object for a run that came to no verdict."""
    unknown = dict.fromkeys(("on_time", "late", "expired", "malformed", "archive_distinct_ids", "hbase_total"))
    known = {"live_total": None, "victim": victim, "killed": pid, "outage": None, "agree": False, "error": error}
    return json.dumps({"sent": sent, **unknown, **known})


def _findings(measured: Measured, tallies: Mapping[str, int], distinct: int) -> list[Finding]:
    sent = measured.acknowledged
    counted = tallies.get("on_time", 0) + tallies.get("late", 0)
    found = [
        Finding(f"{name}: {got}, wanted {wanted}")
        for name, got, wanted in (
            ("records in the topic", sum(len(one.offsets) for one in measured.topic.values()), sent),
            ("records the oracle saw", sum(tallies.values()), sent),
            ("distinct ids in the archive", distinct, sent),
            ("live total", measured.live.total, counted),
        )
        if got != wanted
    ]
    # Of a worker it was seen to have left something to count.
    if measured.killed.victim is not Victim.WORKER and measured.killed.counted_meanwhile < 1:
        found.append(Finding(f"nothing was counted without {measured.killed.name}"))
    expired = {
        partition: _expired(truth, measured.window_ms + measured.retention_ms)
        for partition, truth in measured.truths.items()
    }
    if measured.hbase is not None:
        if measured.hbase.total != counted:
            found.append(Finding(f"HBase total: {measured.hbase.total}, wanted {counted}"))
        wanted = Wanted(measured.truths, measured.ends, expired, measured.claimant)
        progress = {partition: state.counts for partition, state in measured.states.items()}
        found += hbase_findings(wanted, measured.hbase, progress)
    for partition, truth in sorted(measured.truths.items()):
        state = measured.states[partition]
        found += state_findings(partition, truth, state, measured.ends.get(partition, 0), expired[partition])
        found += archive_findings(partition, truth, measured.topic[partition], measured.archived[partition])
    return found + live_findings([truth for _, truth in sorted(measured.truths.items())], measured.live)


def _expired(truth: Truth, age_ms: int) -> Collection[int]:
    now = truth.stream_time
    return {start for start in truth.certificates if now is not None and now >= start + age_ms}


def _windows(measured: Measured, truths: Sequence[Truth], wrong: Collection[int | None]) -> list[WindowLine]:
    cells: Counter[int] = Counter()
    dropped = set()
    for state in measured.states.values():
        for (start, _), cell in state.cells.items():
            cells[start] += cell.on_time + cell.late
        dropped |= {start for start, one in state.certificates.items() if one.dropped}
    sums = window_sums(truths)
    lines = []
    for start in sorted(sums.keys() | measured.live.windows.keys()):
        live, one = measured.live.windows.get(start), sums.get(start, Counter())
        counted = 0 if live is None else live.on_time + live.late
        archived = sum(len(a.offsets_in(start)) for a in measured.archived.values())
        in_state = None if start in dropped else cells[start]
        agree = start not in wrong and counted == one["on_time"] + one["late"] and archived == one.total()
        agree = agree and in_state in (None, counted)
        hbase = None if measured.hbase is None else measured.hbase.in_window(start)
        agree = agree and hbase in (None, counted)
        counts = (one["on_time"], one["late"], one["expired"], counted)
        lines.append(WindowLine(start, *counts, in_state, archived, hbase, agree))
    return lines
