"""Archive lines: byte-exact both ways, one record one line."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.archive.line import CorruptLineError, Line, format_lines, parse_line

fields = (
    st.none()
    | st.binary(max_size=20)
    | st.lists(st.sampled_from([b"\\", b"\t", b"\n", b"\r", b"N", b"n", b"a"])).map(b"".join)
)


@given(st.lists(st.tuples(fields, fields), max_size=30))
def test_every_key_and_value_comes_back_from_one_line(records: list[tuple[bytes | None, bytes | None]]) -> None:
    count = len(records)
    keys, values = [key for key, _ in records], [value for _, value in records]
    data = format_lines("my.topic-1", 12, list(range(count)), [-1] * count, keys, values)
    lines = data.split(b"\n")
    assert lines.pop() == b""
    assert [parse_line(line) for line in lines] == [
        Line("my.topic-1", 12, offset, -1, key, value) for offset, (key, value) in enumerate(records)
    ]


@given(st.lists(fields, min_size=1, max_size=10))
def test_a_column_reads_the_same_whatever_stands_beside_it(column: list[bytes | None]) -> None:
    together = format_lines("t", 0, range(len(column)), [0] * len(column), column, column)
    apart = [format_lines("t", 0, [n], [0], [field], [field]) for n, field in enumerate(column)]
    assert together == b"".join(apart)


def test_slices_leave_no_seam() -> None:
    count = 2_500
    values = [b"x\ny" if n == 1_500 else b"v" for n in range(count)]
    data = format_lines("t", 0, range(count), [0] * count, [None] * count, values)
    offsets = [parse_line(line).offset for line in data.split(b"\n")[:-1]]
    assert all(second == first + 1 for first, second in pairwise(offsets))
    assert len(offsets) == count


def test_a_null_and_its_spelling_differ() -> None:
    data = format_lines("t", 0, [0, 1, 2], [0, 0, 0], [None, rb"\N", b""], [b"", b"", b""])
    assert data == b"t-0-0\t0\t\\N\t\nt-0-1\t0\t\\\\N\t\nt-0-2\t0\t\t\n"


@pytest.mark.parametrize(
    "line",
    [
        b"", b"t-0-1\t0\tk", b"t-0-1\t0\tk\tv\tx", b"t-0-01\t0\tk\tv", b"t-0\t0\tk\tv", b"-0-1\t0\tk\tv",
        b"t-0-1\t+1\tk\tv", b"t-0-1\t\tk\tv", b"t-0-1\t-0\tk\tv", b"t-0-1\t0\tk\\\tv", b"t-0-1\t0\t\\x\tv",
        b"t-0-1\t0\tk\\N\tv", b"t-0-1\t0\tk\rx\tv", b"t-0-1 \t0\tk\tv", b"t-0-1\n\t0\tk\tv",
    ],
)  # fmt: skip
def test_a_malformed_line_is_refused(line: bytes) -> None:
    with pytest.raises(CorruptLineError):
        parse_line(line)
