"""Rows and progress are a format: byte for byte as committed, and read back as written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import progress, rows
from domain.certificate import Certificate, ClassCount
from domain.errors import CorruptRowError
from domain.keys import encode_id, encode_key
from domain.progress import CountsProgress, Cut, FollowerProgress, StateProgress, Witness
from domain.rows import Cell, Kind, Role, RowKey

GOLDEN = Path(__file__).parents[2] / "golden" / "rows"
HIGHEST = 2**63 - 1
MASK64 = 2**64 - 1
START = 1_700_000_100_000
CERTIFICATE = Certificate(
    41, ClassCount(3, 0xDEADBEEF, 7, 39), ClassCount(2, MASK64, 40, 41), ClassCount(), partial=True, dropped=True
)
STATE = StateProgress(
    state_id="0123456789abcdef",
    fingerprint="fedcba9876543210",
    start=5,
    next_offset=42,
    stream_time=1_700_000_399_999,
    witness=Witness(41, 1_700_000_400_000, 0xCBF43926),
    cuts=[Cut(0, 5, None, 1_699_999_999_000), Cut(10, 20, 1_700_000_000_000, 1_700_000_000_500)],
    tallies={"on_time": 30, "late": 2, "malformed": 5},
    cursors={"close": START},
)


COUNTS_PROGRESS = CountsProgress(state_id="s", start=5, next_offset=42, table_id="0123456789abcdef")


def golden(name: str) -> dict[str, bytes]:
    """`name<tab>hex` a line."""
    lines = (GOLDEN / name).read_text("utf-8").splitlines()
    return {label: bytes.fromhex(content) for label, content in (line.split("\t") for line in lines)}


def keys() -> Iterator[tuple[str, bytes]]:
    yield "cell", rows.window_prefix(Kind.CELL, "views", START) + encode_key("page")
    yield "cell with an empty key", rows.window_prefix(Kind.CELL, "views", START) + encode_key("")
    yield "cell of a number", rows.window_prefix(Kind.CELL, "views", START) + encode_key(-7)
    yield "cell of a bool", rows.window_prefix(Kind.CELL, "views", START) + encode_key(raw=True)
    yield "cell of several fields", rows.window_prefix(Kind.CELL, "views", START) + encode_key(('a"b', 1, False, "ü\n"))
    yield "cell of a table named in two bytes a letter", rows.window_prefix(Kind.CELL, "üü", 0) + b"k"
    yield "certificate", rows.window_prefix(Kind.CERTIFICATE, "views", START)
    yield "id of a string", rows.window_prefix(Kind.ID, "views", START) + encode_id("7")
    yield "id of an integer", rows.window_prefix(Kind.ID, "views", START) + encode_id(-7)
    yield "id of 63 bytes", rows.window_prefix(Kind.ID, "views", START) + encode_id("x" * 63)
    yield "id of 64 bytes", rows.window_prefix(Kind.ID, "views", START) + encode_id("x" * 64)
    yield "id with a lone surrogate", rows.window_prefix(Kind.ID, "views", START) + encode_id("\ud800")
    yield "progress of a state", rows.progress_key(Role.STATE, "views")
    yield "progress of counts", rows.progress_key(Role.COUNTS, "views")
    yield "progress of the archive", rows.progress_key(Role.ARCHIVE)
    yield "progress of events", rows.progress_key(Role.EVENTS)


def values() -> Iterator[tuple[str, bytes]]:
    yield "cell", rows.pack_cell(3, 1, 41)
    yield "highest cell", rows.pack_cell(MASK64, MASK64, HIGHEST)
    yield "blank certificate", rows.pack_certificate(Certificate())
    yield "certificate", rows.pack_certificate(CERTIFICATE)
    yield "certificate with finals", rows.pack_certificate(Certificate(1, ClassCount(1, 2, 1, 1), finals_done=True))
    yield "id", rows.pack_id(41)
    yield "progress of a state", progress.encode(STATE)
    yield (
        "progress of a new state",
        progress.encode(StateProgress(state_id="s", fingerprint="f", start=0, next_offset=0)),
    )
    yield "progress of a follower", progress.encode(FollowerProgress(state_id="s", start=5, next_offset=42))
    yield "progress of counts", progress.encode(COUNTS_PROGRESS)


def test_row_keys_are_byte_for_byte_as_committed() -> None:
    assert golden("keys.txt") == dict(keys())


def test_row_values_are_byte_for_byte_as_committed() -> None:
    assert golden("values.txt") == dict(values())


def test_committed_values_are_read_as_they_were_meant() -> None:
    committed = golden("values.txt")
    assert rows.unpack_cell(committed["cell"]) == Cell(3, 1, 41)
    assert rows.unpack_cell(committed["highest cell"]) == Cell(MASK64, MASK64, HIGHEST)
    assert rows.unpack_certificate(committed["blank certificate"]) == Certificate()
    assert rows.unpack_certificate(committed["certificate"]) == CERTIFICATE
    assert rows.unpack_certificate(committed["certificate with finals"]).finals_done
    assert rows.unpack_id(committed["id"]) == 41
    assert progress.decode_state(committed["progress of a state"]) == STATE
    assert progress.decode_counts(committed["progress of counts"]) == COUNTS_PROGRESS
    for name in ("progress of a state", "progress of a follower", "progress of counts"):
        assert progress.state_id_of(committed[name]) == ("s" if "state" not in name else STATE.state_id)
    assert progress.decode_follower(committed["progress of a follower"]) == FollowerProgress(
        state_id="s", start=5, next_offset=42
    )


def test_committed_keys_are_read_as_they_were_meant() -> None:
    committed = golden("keys.txt")
    assert rows.parse_key(committed["cell"]) == RowKey(Kind.CELL, "views", START, b"page")
    assert rows.parse_key(committed["certificate"]) == RowKey(Kind.CERTIFICATE, "views", START, b"")
    assert rows.parse_key(committed["id of an integer"]) == RowKey(Kind.ID, "views", START, b"i-7")
    assert rows.parse_key(committed["progress of counts"]) == RowKey(Kind.PROGRESS, "views", 0, b"counts")
    assert rows.parse_key(committed["progress of the archive"]) == RowKey(Kind.PROGRESS, "", 0, b"archive")


TABLES = st.text(st.characters(codec="utf-8"), max_size=60)
STARTS = st.integers(0, 2**64 - 1)
COUNTS = st.builds(
    ClassCount, st.integers(0, MASK64), st.integers(0, MASK64), st.integers(-1, HIGHEST), st.integers(-1, HIGHEST)
)
CERTIFICATES = st.builds(
    Certificate,
    st.integers(-1, HIGHEST),
    COUNTS,
    COUNTS,
    COUNTS,
    partial=st.booleans(),
    finals_done=st.booleans(),
    dropped=st.booleans(),
)


@given(st.sampled_from([Kind.CELL, Kind.CERTIFICATE, Kind.ID]), TABLES, STARTS, st.binary(max_size=30))
def test_a_row_key_is_read_back(kind: Kind, table: str, start: int, tail: bytes) -> None:
    key = rows.window_prefix(kind, table, start) + tail
    assert rows.parse_key(key) == RowKey(kind, table, start, tail)
    assert key.startswith(rows.table_prefix(kind, table))


@given(st.sampled_from(list(Role)), TABLES)
def test_a_progress_key_is_read_back(role: Role, table: str) -> None:
    assert rows.parse_key(rows.progress_key(role, table)) == RowKey(Kind.PROGRESS, table, 0, role.value.encode())


@given(st.integers(0, MASK64), st.integers(0, MASK64), st.integers(-1, HIGHEST))
def test_a_cell_is_read_back(on_time: int, late: int, offset: int) -> None:
    assert rows.unpack_cell(rows.pack_cell(on_time, late, offset)) == Cell(on_time, late, offset)
    assert rows.unpack_id(rows.pack_id(offset)) == offset


@given(CERTIFICATES)
def test_a_certificate_is_read_back(one: Certificate) -> None:
    assert rows.unpack_certificate(rows.pack_certificate(one)) == one


@given(
    st.builds(
        StateProgress,
        state_id=st.text(st.characters(codec="utf-8")),
        fingerprint=st.text(st.characters(codec="utf-8")),
        start=st.integers(0, HIGHEST),
        next_offset=st.integers(0, HIGHEST),
        stream_time=st.none() | st.integers(0, HIGHEST),
        witness=st.none()
        | st.builds(Witness, st.integers(0, HIGHEST), st.integers(-1, HIGHEST), st.integers(0, 2**32 - 1)),
        cuts=st.lists(
            st.builds(
                Cut, st.integers(0, 9), st.integers(0, 99), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)
            )
        ),
        tallies=st.dictionaries(st.text("abc_"), st.integers(0, HIGHEST)),
        cursors=st.dictionaries(st.text("abc_"), st.integers(0, HIGHEST)),
    )
)
def test_progress_is_read_back_and_equal_progress_has_equal_bytes(one: StateProgress) -> None:
    encoded = progress.encode(one)
    assert progress.decode_state(encoded) == one
    one.tallies = dict(reversed(one.tallies.items()))
    assert progress.encode(one) == encoded


def test_defaults_of_two_progresses_are_not_shared() -> None:
    first, second = (StateProgress(state_id="s", fingerprint="f", start=0, next_offset=0) for _ in range(2))
    first.tallies["late"] = 1
    first.cuts.append(Cut(0, 1))
    assert (second.tallies, second.cuts) == ({}, [])


@given(st.binary(max_size=40))
def test_rows_of_another_version_or_kind_are_not_interpreted(rest: bytes) -> None:
    known = {kind.value[0] for kind in Kind}
    for version in (0, 2, 255):
        assert rows.parse_key(bytes([version]) + b"c" + rest) is None
    for kind in set(range(256)) - known:
        assert rows.parse_key(bytes([rows.FORMAT, kind]) + rest) is None
    assert rows.parse_key(b"") is None


@pytest.mark.parametrize("name", [name for name, _ in keys()])
def test_a_row_key_cut_short_is_corrupt_before_its_tail(name: str) -> None:
    key = golden("keys.txt")[name]
    header = 3 + key[2] + (0 if key[1:2] == b"p" else 8)
    for length in range(2, header):
        with pytest.raises(CorruptRowError):
            rows.parse_key(key[:length])
    assert rows.parse_key(key[:header]) is not None


def test_a_row_key_with_a_broken_table_name_is_corrupt() -> None:
    with pytest.raises(CorruptRowError):
        rows.parse_key(b"\x01c\x02\xff\xff" + bytes(8))


@pytest.mark.parametrize("change", [-1, 1])
def test_a_value_of_another_length_is_corrupt(change: int) -> None:
    for unpack, value in (
        (rows.unpack_cell, rows.pack_cell(1, 2, 3)),
        (rows.unpack_id, rows.pack_id(3)),
        (rows.unpack_certificate, rows.pack_certificate(CERTIFICATE)),
    ):
        wrong = value[:-1] if change < 0 else value + b"\0"
        with pytest.raises(CorruptRowError, match=f"{len(wrong)} bytes, expected {len(value)}"):
            unpack(wrong)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"format":1,"state_id":"\xff","fingerprint":"f","start":0,"next_offset":0}',
        b'{"format":1,"state_id":"s","fingerprint":"f","start":0,"next_offset":"0"}',
        b'{"format":1,"state_id":"s","fingerprint":"f","start":0}',
        b'{"format":2,"state_id":"s","fingerprint":"f","start":0,"next_offset":0}',
        progress.encode(STATE)[:-1],
    ],
)
def test_progress_that_cannot_be_read_is_corrupt(value: bytes) -> None:
    with pytest.raises(CorruptRowError):
        progress.decode_state(value)
    with pytest.raises(CorruptRowError):
        progress.decode_follower(value.replace(b"next_offset", b"offset"))


ROW_KEYS = st.tuples(TABLES, STARTS, st.binary(max_size=4))


@given(st.lists(ROW_KEYS, max_size=8), st.sampled_from(["a", "b", "views"]))
def test_rows_of_a_table_stand_together_by_window_and_key(others: list[tuple[str, int, bytes]], table: str) -> None:
    cells = [(one if n % 2 else table, start, tail) for n, (one, start, tail) in enumerate(others)]
    ordered = sorted(cells, key=lambda cell: rows.window_prefix(Kind.CELL, *cell[:2]) + cell[2])
    ours = [cell[1:] for cell in ordered if cell[0] == table]
    assert ours == sorted(ours)
    places = [n for n, cell in enumerate(ordered) if cell[0] == table]
    assert places == list(range(places[0], places[0] + len(places))) if places else True


@given(TABLES, TABLES)
def test_no_table_is_a_prefix_of_another(one: str, other: str) -> None:
    if one != other:
        assert not rows.table_prefix(Kind.CELL, one).startswith(rows.table_prefix(Kind.CELL, other))


def test_a_table_name_a_row_key_cannot_hold_is_refused() -> None:
    assert rows.parse_key(rows.window_prefix(Kind.CELL, "x" * 255, 5)) == RowKey(Kind.CELL, "x" * 255, 5, b"")
    for name in ("x" * 256, "ü" * 128):
        with pytest.raises(ValueError, match="table name of 256 bytes, a row key holds 255"):
            rows.table_prefix(Kind.CELL, name)
