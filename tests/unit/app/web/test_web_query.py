"""Merging the answers of partitions, checked against adding everything up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.web.answers import WindowState
from app.web.query import CANDIDATES_MAX, Covered, Source, Top, closing, cover, sum_windows, top_step
from app.web.wire import Answer, Reply, TopAsk
from tables.view import CellCount, WindowCount
from tests.unit.app.web.fakes import Cells, largest

keys = st.binary(min_size=1, max_size=2) | st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
cells = st.dictionaries(keys, st.tuples(st.integers(0, 40), st.integers(0, 3)).filter(any), max_size=30)
partitions = st.lists(cells, max_size=6)


def answer(held: list[Cells], ask: TopAsk) -> dict[int, Answer]:
    return {
        n: Answer(
            n,
            10,
            top=largest(window, ask.count),
            cells=[CellCount(key, *window[key]) for key in ask.keys if key in window],
        )
        for n, window in enumerate(held)
    }


def top_of(held: list[Cells], wanted: int, candidates_max: int = CANDIDATES_MAX) -> tuple[Top, int]:
    step: Top | TopAsk = TopAsk("t", 0, wanted)
    rounds = 0
    while isinstance(step, TopAsk):
        rounds += 1
        step = top_step(answer(held, step), step, wanted, candidates_max=candidates_max)
    return step, rounds


def totals(held: list[Cells]) -> Counter[bytes]:
    total: Counter[bytes] = Counter()
    for window in held:
        for key, (on_time, late) in window.items():
            total[key] += on_time + late
    return total


@given(partitions, st.integers(1, 12))
def test_the_top_over_partitions_equals_adding_everything_up(held: list[Cells], wanted: int) -> None:
    top, _ = top_of(held, wanted)
    expected = totals(held)
    assert top.exact
    assert [c.on_time + c.late for c in top.cells] == [count for _, count in expected.most_common(wanted)]
    assert all(expected[c.key] == c.on_time + c.late for c in top.cells)
    assert len({c.key for c in top.cells}) == len(top.cells)


@given(partitions, st.integers(1, 12))
def test_on_time_and_late_of_the_top_are_summed_apart(held: list[Cells], wanted: int) -> None:
    for cell in top_of(held, wanted)[0].cells:
        assert cell.on_time == sum(window.get(cell.key, (0, 0))[0] for window in held)
        assert cell.late == sum(window.get(cell.key, (0, 0))[1] for window in held)


@given(partitions.filter(lambda p: len(p) > 1), st.integers(1, 5))
def test_when_rounds_run_out_what_is_not_listed_stays_below_the_bound_given(held: list[Cells], wanted: int) -> None:
    ask = TopAsk("t", 0, wanted)
    top = top_step(answer(held, ask), ask, wanted, last_round=True)
    assert isinstance(top, Top)
    unlisted = totals(held)
    for cell in top.cells:
        del unlisted[cell.key]
    if not top.exact:
        assert max(unlisted.values(), default=0) <= top.unseen_max


def test_a_key_second_everywhere_beats_the_first_of_each_partition() -> None:
    held: list[Cells] = [{b"x%d" % n: (10, 0), b"shared": (9, 0)} for n in range(5)]
    top, rounds = top_of(held, 1)
    assert top.cells == [CellCount(b"shared", 45, 0)]
    assert rounds > 2


def test_a_flat_window_stops_growing_and_says_the_bound() -> None:
    held: list[Cells] = [{b"%d-%d" % (n, k): (1, 0) for k in range(100)} | {b"x": (2, 0)} for n in range(2)]
    top, rounds = top_of(held, 2, candidates_max=100)
    assert top.cells[0] == CellCount(b"x", 4, 0)
    assert (top.exact, top.unseen_max) == (False, 2)
    assert rounds == 6


def source(url: str, owns: tuple[int, ...], **answers: int) -> Source:
    return Source(url, owns, Reply([Answer(int(name[1:]), offset) for name, offset in answers.items()]))


def test_of_two_answers_for_one_partition_the_higher_offset_wins_in_any_order() -> None:
    old, new = source("a", (0,), p0=5), source("b", (0,), p0=9)
    for sources in ([old, new], [new, old]):
        assert cover(sources, 1).answers[0].next_offset == 9


def test_every_partition_without_an_answer_is_named_with_the_reason() -> None:
    restoring = Source("http://b", (1,), Reply([], {1: "not ready (restoring)"}))
    down = Source("http://c", (2,), None, "unreachable")
    silent = Source("http://d", (4,), Reply())
    covered = cover([source("http://a", (0,), p0=5), restoring, down, silent], 5)
    assert covered.missing == {
        1: "http://b: not ready (restoring)",
        2: "http://c: unreachable",
        3: "no worker owns it",
        4: "http://d: not ready",
    }
    assert not covered.complete


def test_a_partition_answered_by_someone_else_than_its_said_owner_is_not_missing() -> None:
    covered = cover([Source("http://gone", (0,), None, "unreachable"), source("http://new", (), p0=5)], 1)
    assert covered.complete


def test_an_unknown_partition_count_is_never_called_complete() -> None:
    covered = cover([source("a", (0,), p0=5)], None)
    assert not covered.missing
    assert not covered.complete


def test_windows_add_up_and_keep_partial_and_dropped_flags() -> None:
    one = Answer(0, 1, windows=[WindowCount(0, 1, 2, 3, 9, partial=False, dropped=True)])
    two = Answer(1, 1, windows=[WindowCount(0, 10, 20, 30, 9, partial=True, dropped=False)])
    (window,) = sum_windows([one, two])
    assert (window.on_time, window.late, window.expired) == (11, 22, 33)
    assert window.partial
    assert window.dropped


def state_of(*answers: Answer, missing: bool = False) -> WindowState:
    covered = Covered(dict(enumerate(answers)), {9: "gone"} if missing else {})
    return closing(covered).state(end_ms=100, grace_ms=10)


def test_a_window_closes_when_every_partition_has_passed_its_end_and_grace() -> None:
    assert state_of(Answer(0, 1, 110), Answer(1, 1, 500)) == WindowState.CLOSED
    assert state_of(Answer(0, 1, 109), Answer(1, 1, 500)) == WindowState.OPEN
    assert state_of(Answer(0, 1, None), Answer(1, 1, 500)) == WindowState.OPEN


def test_an_idle_partition_holds_no_window_open() -> None:
    assert state_of(Answer(0, 1, 5, idle=True), Answer(1, 1, 500)) == WindowState.CLOSED
    assert state_of(Answer(0, 1, None, idle=True)) == WindowState.CLOSED


def test_a_missing_partition_makes_closed_unknown_but_open_stays_open() -> None:
    assert state_of(Answer(0, 1, 500), missing=True) == WindowState.UNKNOWN
    assert state_of(Answer(0, 1, 5), missing=True) == WindowState.OPEN
