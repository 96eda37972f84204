"""Which windows are closed, expired, partial: to the millisecond."""

from __future__ import annotations

import pytest

from domain.progress import Cut
from domain.spec import EventTime, TableSpec, TimeFormat, TopicSpec
from domain.window import Cuts, closed_until, expired_until, known_after

TOPIC = TopicSpec("clicks", EventTime(TimeFormat.KAFKA), max_future_ms=10, max_past_ms=1000)
TABLE = TableSpec("views", "clicks", (), window_ms=100, grace_ms=50, retention_ms=300)


def test_a_window_closes_grace_after_its_end_and_expires_retention_after_it() -> None:
    assert closed_until(TABLE, 1000 + 100 + 50) == 1000
    assert closed_until(TABLE, 1000 + 100 + 50 - 1) == 999
    assert expired_until(TABLE, 1000 + 100 + 300) == 1000


@pytest.mark.parametrize(
    ("start_ms", "touched"),
    [(5000 - 1000 - 100, False), (5000 - 1000 - 99, True), (6000, True), (8010, True), (8011, False)],
)
def test_a_cut_touches_the_windows_its_records_may_have_belonged_to(start_ms: int, touched: bool) -> None:
    cuts = Cuts(TOPIC, TABLE.window_ms, [Cut(10, 20, before_ms=5000, after_ms=8000)])
    assert cuts.touch(start_ms) is touched
    low, high = cuts.reach()
    assert (low < start_ms <= high) is touched


def test_a_cut_at_the_start_has_no_lower_bound() -> None:
    assert Cuts(TOPIC, 100, [Cut(0, 20, after_ms=8000)]).touch(0)
    assert not Cuts(TOPIC, 100, [Cut(0, 20, after_ms=8000)]).touch(8100)


def test_a_cut_touches_nothing_before_the_first_record_after_it_is_known() -> None:
    cuts = [Cut(0, 20), Cut(30, 40, before_ms=7)]
    assert not Cuts(TOPIC, 100, cuts).touch(0)
    assert Cuts(TOPIC, 100, cuts).reach()[1] < 0
    assert known_after(cuts, 19, 1) == cuts
    assert known_after(cuts, 20, 1) == [Cut(0, 20, after_ms=1), Cut(30, 40, before_ms=7)]
    assert known_after(known_after(cuts, 20, 1), 55, 9) == [
        Cut(0, 20, after_ms=1),
        Cut(30, 40, before_ms=7, after_ms=9),
    ]
