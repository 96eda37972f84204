"""The verdict sees every kind of disagreement: each test breaks one thing of a run in which all agrees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from app.cli_options import Victim
from app.demo.hbase import Tables
from app.demo.kill import Killed
from app.demo.result import Measured, failure_json, judge
from app.demo.verdict import CLASSES, MALFORMED_SLOT, Archived, Contents, Live, LiveWindow, State, Truth, content_of
from domain.progress import CountsProgress, Cut, StateProgress
from domain.rows import Cell, pack_certificate
from sinks.hbase.claim import Claimant
from sinks.hbase.format import (
    FRONTIER_ROW,
    Frontier,
    cell_row,
    column,
    pack_frontier,
    pack_offset,
    version,
    window_row,
)
from tests.spec import oracle

WINDOW, GRACE, RETENTION = 1000, 1000, 3000
CLAIMANT = Claimant("views", "demo", "clicks", "f00d")
KILLED = Killed(Victim.WORKER, "worker-1", 4711, 7.26, 5)
TOPIC = {"name": "clicks", "event_time": {"field": "ts", "format": "epoch_ms"}, "max_past": "1h", "max_future": "1h"}
TABLE = {"name": "views", "topic": "clicks", "key": ["page"], "window": "1s", "grace": "1s", "retention": "3s"}
TIMES = (100, 900, 2500, 300, 1700, 6000, 200, 1100, None, 6500)  # on time, late, expired and one malformed


def _log(partition: int) -> list[dict[str, Any]]:
    values = [b"no" if at is None else json.dumps({"ts": at, "page": f"/{at % 3}"}).encode() for at in TIMES]
    return [
        {"offset": offset, "timestamp": 7000 + partition, "key": b"k%d" % partition, "value": value}
        for offset, value in enumerate(values)
    ]


def _archived(log: list[dict[str, Any]]) -> Archived:
    slots = [MALFORMED_SLOT if at is None else at - at % WINDOW for at in TIMES]
    twice = [*range(len(log)), 2]  # a line that was read again is no harm
    return Archived(
        Contents(
            np.array([log[i]["offset"] for i in twice], np.int64),
            np.array([content_of(log[i]["timestamp"], log[i]["key"], log[i]["value"]) for i in twice], np.int64),
        ),
        np.array([slots[i] for i in twice], np.int64),
    )


def _state(truth: Truth) -> State:
    progress = StateProgress(
        state_id="s",
        fingerprint="f",
        start=0,
        next_offset=len(TIMES),
        stream_time=truth.stream_time,
        tallies={**truth.tallies, "duplicate": 0},
    )
    certificates = {start: replace(one) for start, one in truth.certificates.items()}
    return State(progress, len(TIMES), dict(truth.cells), certificates)


def _live(truths: list[Truth]) -> Live:
    windows = {}
    for start in truths[0].certificates:
        ones = [truth.certificates[start] for truth in truths]
        cells = [(key, cell) for truth in truths for (at, key), cell in truth.cells.items() if at == start]
        totals: dict[bytes, tuple[int, int]] = dict.fromkeys((key for key, _ in cells), (0, 0))
        for key, cell in cells:
            totals[key] = (totals[key][0] + cell.on_time, totals[key][1] + cell.late)
        top = [(key, *counts) for key, counts in sorted(totals.items(), key=lambda one: (-sum(one[1]), one[0]))]
        on_time, late, expired = (sum(getattr(one, name).count for one in ones) for name in CLASSES)
        windows[start] = LiveWindow(on_time, late, expired, top)
    tallies = {name: count * len(truths) for name, count in truths[0].tallies.items()}
    return Live(complete=True, tallies=tallies, windows=windows)


@pytest.fixture
def measured() -> Measured:
    logs = [_log(0), _log(1)]
    truths = [Truth.of(json.loads(json.dumps(oracle.fold_partition(log, TOPIC, TABLE)))) for log in logs]
    archived = [_archived(log) for log in logs]
    once = [Contents(one.records.offsets[:-1].copy(), one.records.contents[:-1].copy()) for one in archived]
    return Measured(
        acknowledged=2 * len(TIMES),
        ends=dict.fromkeys(range(2), len(TIMES)),
        topic=dict(enumerate(once)),
        truths=dict(enumerate(truths)),
        states={partition: _state(truth) for partition, truth in enumerate(truths)},
        archived=dict(enumerate(archived)),
        live=_live(truths),
        hbase=None,
        claimant=CLAIMANT,
        killed=KILLED,
        window_ms=WINDOW,
        retention_ms=RETENTION,
    )


def test_a_run_in_which_everything_agrees_says_so(measured: Measured) -> None:
    result = judge(measured)
    assert result.findings == []
    assert result.agree
    assert (result.late, result.expired, result.malformed) == (2, 4, 2)
    assert result.archive_lines == result.archive_distinct_ids + 2
    assert all(line.agree for line in result.windows)


def test_the_json_object_has_the_promised_fields(measured: Measured) -> None:
    assert json.loads(judge(measured).to_json()) == {
        "sent": 20,
        "on_time": 12,
        "late": 2,
        "expired": 4,
        "malformed": 2,
        "archive_distinct_ids": 20,
        "hbase_total": None,
        "live_total": 14,
        "victim": "worker",
        "killed": 4711,
        "outage": {"name": "worker-1", "down_s": 7.3, "counted_meanwhile": 5, "restarted": []},
        "agree": True,
    }


def test_a_run_without_a_verdict_has_the_same_fields_and_does_not_agree(measured: Measured) -> None:
    failed = json.loads(failure_json(5, None, Victim.WORKER, "a worker died"))
    assert failed.keys() - {"error"} == json.loads(judge(measured).to_json()).keys()
    assert failed["agree"] is False


def _wrong_cell(m: Measured) -> None:
    at, cell = next(iter(m.states[0].cells.items()))
    m.states[0].cells[at] = Cell(cell.on_time + 1, cell.late, cell.offset)


def _wrong_cell_offset(m: Measured) -> None:
    at, cell = next(iter(m.states[0].cells.items()))
    m.states[0].cells[at] = Cell(cell.on_time, cell.late, cell.offset + 1)


def _missing_cell(m: Measured) -> None:
    del m.states[1].cells[next(iter(m.states[1].cells))]


def _foreign_cell(m: Measured) -> None:
    m.states[1].cells[0, b"/nobody"] = Cell(1, 0, 1)


def _wrong_certificate(m: Measured) -> None:
    one = m.states[0].certificates[0]
    m.states[0].certificates[0] = replace(one, late=replace(one.late, digest=one.late.digest ^ 1))


def _partial_certificate(m: Measured) -> None:
    m.states[0].certificates[0].partial = True


def _missing_certificate(m: Measured) -> None:
    del m.states[0].certificates[2000]


def _dropped_too_early(m: Measured) -> None:
    m.states[0].certificates[6000].dropped = True
    for at in [at for at in m.states[0].cells if at[0] == 6000]:
        del m.states[0].cells[at]


def _progress_behind(m: Measured) -> None:
    progress = m.states[0].progress
    assert progress is not None
    progress.next_offset -= 1


def _archive_behind(m: Measured) -> None:
    m.states[0].archive_next_offset = 3


def _wrong_tally(m: Measured) -> None:
    progress = m.states[0].progress
    assert progress is not None
    progress.tallies["late"] += 1


def _wrong_stream_time(m: Measured) -> None:
    progress = m.states[0].progress
    assert progress is not None
    progress.stream_time = 0


def _cut(m: Measured) -> None:
    progress = m.states[0].progress
    assert progress is not None
    progress.cuts = [Cut(0, 1)]


def _no_state(m: Measured) -> None:
    m.states[0].progress = None


@pytest.mark.parametrize(
    "damage",
    [
        _wrong_cell,
        _wrong_cell_offset,
        _missing_cell,
        _foreign_cell,
        _wrong_certificate,
        _partial_certificate,
        _missing_certificate,
        _dropped_too_early,
        _progress_behind,
        _archive_behind,
        _wrong_tally,
        _wrong_stream_time,
        _cut,
        _no_state,
    ],
)
def test_damaged_state_is_found(measured: Measured, damage: Callable[[Measured], None]) -> None:
    damage(measured)
    assert not judge(measured).agree


def test_cells_of_an_expired_window_may_be_dropped(measured: Measured) -> None:
    measured.states[0].certificates[0].dropped = True
    for at in [at for at in measured.states[0].cells if at[0] == 0]:
        del measured.states[0].cells[at]
    result = judge(measured)
    assert result.findings == []
    assert result.windows[0].cells is None


def _with_lines(archived: Archived, keep: list[int]) -> Archived:
    records = archived.records
    return Archived(Contents(records.offsets[keep], records.contents[keep]), archived.slots[keep])


def _missing_id(archived: Archived) -> Archived:
    return _with_lines(archived, [0, 1, 2, 3, 4, 5, 6, 7, 8])


def _foreign_id(archived: Archived) -> Archived:
    damaged = _with_lines(archived, [*range(10), 9])
    damaged.records.offsets[-1] = 99
    return damaged


def _changed_content(archived: Archived) -> Archived:
    archived.records.contents[4] ^= 1
    return archived


def _two_contents(archived: Archived) -> Archived:
    archived.records.contents[10] ^= 1  # the second line of an id
    return archived


def _wrong_folder(archived: Archived) -> Archived:
    archived.slots[0] = 2000
    return archived


def _swapped_folders(archived: Archived) -> Archived:
    """Every folder holds as many lines as it should."""
    first, second = TIMES.index(100), TIMES.index(6000)
    archived.slots[[first, second]] = archived.slots[[second, first]]
    return archived


def _malformed_elsewhere(archived: Archived) -> Archived:
    archived.slots[TIMES.index(None)] = 6000
    return archived


@pytest.mark.parametrize(
    "damage",
    [
        _missing_id,
        _foreign_id,
        _changed_content,
        _two_contents,
        _wrong_folder,
        _swapped_folders,
        _malformed_elsewhere,
    ],
)
def test_a_damaged_archive_is_found(measured: Measured, damage: Callable[[Archived], Archived]) -> None:
    damaged = {**measured.archived, 1: damage(measured.archived[1])}
    result = judge(replace(measured, archived=damaged))
    assert not result.agree
    assert any("archive" in finding.what for finding in result.findings)


def test_an_id_with_two_contents_is_named(measured: Measured) -> None:
    result = judge(replace(measured, archived={**measured.archived, 0: _two_contents(measured.archived[0])}))
    assert any("two contents" in finding.what for finding in result.findings)


def _window(live: Live, **changed: Any) -> Live:
    return replace(live, windows={**live.windows, 0: replace(live.windows[0], **changed)})


@pytest.mark.parametrize(
    "damage",
    [
        lambda live: replace(live, complete=False),
        lambda live: replace(live, tallies={**live.tallies, "late": 3}),
        lambda live: replace(live, windows={start: one for start, one in live.windows.items() if start}),
        lambda live: replace(live, windows={**live.windows, 50_000: LiveWindow(1, 0, 0, [])}),
        lambda live: _window(live, on_time=5, late=1),
        lambda live: _window(live, expired=0),
        lambda live: _window(live, top=live.windows[0].top[1:]),
        lambda live: _window(live, top=[(b"/other", *live.windows[0].top[0][1:]), *live.windows[0].top[1:]]),
        lambda live: _window(live, top=[live.windows[0].top[0]] * len(live.windows[0].top)),
    ],
)
def test_a_wrong_answer_of_the_web_is_found(measured: Measured, damage: Callable[[Live], Live]) -> None:
    assert not judge(replace(measured, live=damage(measured.live))).agree


def test_a_wrong_window_is_marked_in_its_line(measured: Measured) -> None:
    _wrong_cell(measured)
    assert [line.start_ms for line in judge(measured).windows if not line.agree] == [
        next(iter(measured.states[0].cells))[0]
    ]


def test_records_sent_that_the_topic_lacks_are_found(measured: Measured) -> None:
    assert not judge(replace(measured, acknowledged=21)).agree


def test_an_hbase_without_the_counts_is_found(measured: Measured) -> None:
    result = judge(replace(measured, hbase=Tables({}, {})))
    assert result.hbase_total == 0
    assert "HBase total: 0, wanted 14" in [one.what for one in result.findings]
    assert not any(line.agree for line in result.windows if line.live)


@pytest.mark.parametrize("victim", [Victim.THRIFT, Victim.DATANODE])
def test_a_server_without_which_nothing_was_counted_proves_nothing(measured: Measured, victim: Victim) -> None:
    killed = replace(KILLED, victim=victim)
    assert judge(replace(measured, killed=killed)).agree
    assert not judge(replace(measured, killed=replace(killed, counted_meanwhile=0))).agree


def _in_hbase(measured: Measured) -> Measured:
    """The same run with its counts in HBase too."""
    end = version(len(TIMES))
    counts: dict[bytes, dict[bytes, tuple[bytes, int]]] = {}
    windows: dict[bytes, dict[bytes, tuple[bytes, int]]] = {}
    told = windows[FRONTIER_ROW] = {}
    for partition, truth in measured.truths.items():
        for (start, key), cell in truth.cells.items():
            for letter, number in (("n", cell.on_time), ("l", cell.late)):
                if number:
                    value = number.to_bytes(8, "big")
                    counts.setdefault(cell_row(start, key), {})[column(letter, partition)] = value, end
        for start, one in truth.certificates.items():
            windows.setdefault(window_row(start), {})[column("w", partition)] = pack_certificate(one), end
        told[column("c", partition)] = pack_frontier(Frontier(len(TIMES), truth.stream_time)), end
        told[column("a", partition)] = pack_offset(len(TIMES)), end
        measured.states[partition].counts = CountsProgress(state_id="s", start=0, next_offset=0)
    windows[b"owner"] = {b"c:owner": (msgspec.json.encode(CLAIMANT.owner()), 1)}
    return replace(measured, hbase=Tables(counts, windows))


def test_hbase_agrees_with_all_else_and_has_its_column(measured: Measured) -> None:
    result = judge(_in_hbase(measured))
    assert result.findings == []
    assert json.loads(result.to_json())["hbase_total"] == result.live_total == 14
    assert [line.hbase for line in result.windows] == [line.live for line in result.windows]


def test_a_count_that_hbase_lacks_changes_total_window_and_verdict(measured: Measured) -> None:
    damaged = _in_hbase(measured)
    assert damaged.hbase is not None
    del damaged.hbase.counts[cell_row(2000, b"/1")]  # type: ignore[attr-defined]
    result = judge(damaged)
    assert result.hbase_total == 12
    assert {finding.start_ms for finding in result.findings} == {None, 2000}
    assert [line.start_ms for line in result.windows if not line.agree] == [2000]


def test_absent_and_empty_keys_and_values_are_different_contents() -> None:
    empties = {content_of(1, key, value) for key in (None, b"") for value in (None, b"")}
    assert len(empties) == 4
    assert content_of(1, b"a", b"b") != content_of(1, b"ab", b"")
    assert content_of(1, b"a", b"b") != content_of(2, b"a", b"b")


def test_the_oracles_answer_is_read_as_it_writes_it() -> None:
    truth = Truth.of(oracle.fold_partition(_log(0), TOPIC, TABLE))
    assert truth.cells[0, base64.b64decode(base64.b64encode(b"/1"))] == Cell(1, 0, 0)
    assert truth.certificates[0].expired.count == 1
