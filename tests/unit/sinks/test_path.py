"""Names in the archive say what they hold, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.spec import TIME_END_MS
from sinks.archive.path import (
    DAY_MS,
    PartName,
    Slot,
    attempt_of,
    clamped_day_ms,
    parse_final,
    parse_ledger,
    parse_open,
    random_token,
)

ATTEMPT = "00112233445566aa"
slots = st.builds(
    lambda malformed, at: Slot(malformed, at // DAY_MS * DAY_MS if malformed else at // 60_000 * 60_000),
    st.booleans(),
    st.integers(0, TIME_END_MS - 1),
)
offsets = st.integers(0, 2**63 - 1)


@given(slots, offsets, offsets, st.sampled_from([ATTEMPT, ATTEMPT + "x3"]))
def test_a_committed_name_is_read_back(slot: Slot, first: int, last: int, attempt: str) -> None:
    part = PartName("a.b-c_d", 12, slot, first, attempt)
    folder, _, name = part.final_path("/root", last).removeprefix("/root/a.b-c_d/").rpartition("/")
    found = parse_final(folder, name)
    assert found is not None
    assert (found.topic, found.partition, found.slot, found.first, found.last) == ("a.b-c_d", 12, slot, first, last)
    assert found.ledger_key == part.ledger_key


@given(slots, offsets, st.booleans(), st.booleans())
def test_an_open_name_is_read_back(slot: Slot, first: int, claimed: bool, copied: bool) -> None:
    part = PartName("t", 3, slot, first, ATTEMPT)
    if claimed:
        part = part.claimed(random_token())
    if claimed and copied:
        part = part.copy()
    folder, _, name = part.open_path("/root").rpartition("/")
    assert folder == "/root/t/_open/3"
    assert parse_open("t", 3, name) == part


def test_names_look_as_designed() -> None:
    part = PartName("clicks", 3, Slot(False, 1_795_421_100_000), 17, ATTEMPT)
    assert part.open_path("/r") == f"/r/clicks/_open/3/{ATTEMPT}+001795421100000+0000000000000000017.log"
    assert part.final_path("/r", 99) == (
        f"/r/clicks/dt=2026-11-23/hm=0805/clicks+3+0000000000000000017+0000000000000000099.{ATTEMPT}.log"
    )
    malformed = PartName("clicks", 3, Slot(True, clamped_day_ms(1_795_421_100_000)), 17, ATTEMPT)
    assert malformed.open_path("/r") == f"/r/clicks/_open/3/{ATTEMPT}+malformed-2026-11-23+0000000000000000017.log"
    assert malformed.final_path("/r", 17).startswith("/r/clicks/malformed/dt=2026-11-23/clicks+3+")


@pytest.mark.parametrize(("timestamp", "folder"), [(-1, "1970-01-01"), (2**62, "9999-12-31"), (DAY_MS, "1970-01-02")])
def test_days_of_malformed_records_are_clamped(timestamp: int, folder: str) -> None:
    assert Slot(True, clamped_day_ms(timestamp)).folder == f"malformed/dt={folder}"


@pytest.mark.parametrize("name", ["x.log", "_SUCCESS", f"{ATTEMPT}+1+2.log", f"{ATTEMPT}+001795421100000+17.log"])
def test_foreign_names_are_passed_over(name: str) -> None:
    assert parse_open("t", 0, name) is None
    assert parse_final("dt=2026-11-23/hm=0805", name) is None
    assert parse_ledger(name) is None


def test_a_write_error_keeps_the_attempt() -> None:
    assert attempt_of(ATTEMPT + "x12") == attempt_of(ATTEMPT) == ATTEMPT
