from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from app.config.units import UNIT_MS, Duration, parse_address, parse_bytes, parse_start_ms
from tests.spec import oracle


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNIT_MS)))
def test_a_duration_is_what_the_specification_says(number: int, unit: str) -> None:
    text = f"{number}{unit}"
    if number * UNIT_MS[unit] <= 36_500 * UNIT_MS["d"]:
        assert Duration.parse(text).ms == oracle.duration_ms(text)


@given(st.integers(0, 36_500 * UNIT_MS["d"]))
def test_a_duration_printed_reads_back_equal(ms: int) -> None:
    assert Duration.parse(str(Duration(ms))) == ms
    assert f"{Duration(ms)}" == str(Duration(ms))


@given(st.text(max_size=6))
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    if re.fullmatch(r"[0-9]+(ms|s|m|h|d)", text):
        return
    with pytest.raises(PydanticCustomError, match="wants a duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65_536), ("256MiB", 256 << 20), ("1GiB", 1 << 30), ("1 TiB", 1 << 40), ("12", 12), ("7B", 7), (9, 9)],
)
def test_sizes_in_bytes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["256MB", "1.5GiB", "-1", 0, "", True, None, "KiB", "1kib"])
def test_text_that_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError, match="wants"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9092", "127.0.0.1", 9092),
        ("[::1]:1", "::1", 1),
        ("broker-1.example:65535", "broker-1.example", 65_535),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize("text", ["127.0.0.1", "x:0", "x:65536", ":1", "a b:1", "x:1/", 9092])
def test_text_that_is_no_address_is_refused(text: object) -> None:
    with pytest.raises(PydanticCustomError, match="wants host:port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "start_ms"),
    [
        ("earliest", None),
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-23T08:00:00Z", 1_795_420_800_000),
        ("2026-11-23T08:00:00.250+00:00", 1_795_420_800_250),
    ],
)
def test_starts(text: str, start_ms: int | None) -> None:
    assert parse_start_ms(text) == start_ms


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("latest", "same on every run", '"earliest"'),
        ("2026-11-23T08:00:00", "no zone", '"2026-11-23T08:00:00Z"'),
        ("2026-11-23T08:00:00+01:00", "isn't in UTC", '"2026-11-23T07:00:00Z"'),
        ("2026-11-23T08:00:00.0001Z", "whole milliseconds", ""),
        ("1969-12-31T23:59:59Z", "since 1970", ""),
        ("soon", "a UTC time", "2026-11-23T08:00:00Z"),
        (5, "a UTC time", ""),
    ],
)
def test_a_start_that_is_no_fixed_time_is_refused(text: object, problem: str, fix: str) -> None:
    with pytest.raises(PydanticCustomError, match=problem) as caught:
        parse_start_ms(text)
    assert caught.value.context is not None
    assert fix in caught.value.context["fix"]
