"""How the check of cells gives way to counting. What it finds: tests/unit/tables/test_cell_check.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents import cell_check


@pytest.mark.parametrize(("worked_s", "rested_s"), [(0.001, []), (0.01, [0.04]), (20.0, [cell_check.REST_MAX_S])])
def test_it_rests_for_longer_than_it_worked_but_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, worked_s: float, rested_s: list[float]
) -> None:
    """A row that is being read keeps the store from closing, and a disk may take long for a few."""
    clock, rested = iter([0.0, worked_s, worked_s]), list[float]()
    monkeypatch.setattr(cell_check, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=rested.append))
    cell_check._Pace().rest()
    assert rested == pytest.approx(rested_s)
