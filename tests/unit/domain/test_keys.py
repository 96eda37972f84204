"""Bytes of cell keys and event ids."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.keys import ID_BYTES_MAX, encode_id, encode_key, kafka_key_texts, key_fits, key_types
from domain.spec import KEY_BYTES_MAX, KeyField, KeyType

TEXTS = st.text(st.characters(codec="utf-8"))
PARTS = TEXTS | st.integers() | st.booleans()


@settings(max_examples=300)
@given(st.lists(PARTS, min_size=2, max_size=5).map(tuple))
def test_a_key_of_several_fields_is_the_json_array_of_the_standard_library(raw: Any) -> None:
    assert encode_key(raw) == json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("block", range(0, 0x110000, 0x8000))
def test_every_character_is_escaped_as_the_standard_library_does(block: int) -> None:
    text = "".join(chr(c) for c in range(block, block + 0x8000) if not 0xD800 <= c <= 0xDFFF)
    assert encode_key((text, 0)) == json.dumps([text, 0], ensure_ascii=False, separators=(",", ":")).encode()


@given(st.integers() | st.booleans())
def test_a_number_alone_is_its_json(raw: int) -> None:
    assert encode_key(raw) == json.dumps(raw).encode()


@pytest.mark.parametrize("bits", [62, 63, 64, 65, 200, 13_600])
def test_integers_of_any_size_are_written_whole(bits: int) -> None:
    for number in (2**bits - 1, 2**bits, -(2**bits), -(2**bits) - 1):
        assert encode_key(number) == str(number).encode()
        assert encode_key((number, "")) == b'[%s,""]' % str(number).encode()


@given(TEXTS)
def test_a_string_alone_is_its_bytes(raw: str) -> None:
    assert encode_key(raw) == raw.encode()


@pytest.mark.parametrize("surrogate", ["\ud800", "a\udfff", ("a", "\ud800"), ("\udc00\ud800",)])
def test_a_lone_surrogate_fits_no_key(surrogate: Any) -> None:
    assert not key_fits(surrogate)


def test_a_key_fits_by_its_bytes() -> None:
    assert key_fits("é" * (KEY_BYTES_MAX // 2))
    assert not key_fits("é" * (KEY_BYTES_MAX // 2) + "x")
    assert key_fits(("x" * (KEY_BYTES_MAX - 6), 1))
    assert not key_fits(("x" * (KEY_BYTES_MAX - 5), 1))


def test_a_kafka_key_is_strict_utf_8() -> None:
    assert kafka_key_texts([b"a", "ü".encode(), b"", None]) == ["a", "ü", "", None]
    assert kafka_key_texts([b"a", b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", None]) == ["a", None, None, None, None]
    assert kafka_key_texts([]) == []


def test_types_are_those_of_the_fields() -> None:
    fields = (KeyField("a"), KeyField("b", KeyType.INT), KeyField("c", KeyType.BOOL), KeyField(None))
    assert key_types(fields) == (str, int, bool, str)


@given(st.lists(st.text() | st.integers(), max_size=8, unique_by=lambda one: (type(one), one)))
def test_different_ids_have_different_bytes(ids: list[str | int]) -> None:
    encoded = list(map(encode_id, ids))
    assert len(set(encoded)) == len(ids)
    assert all(len(one) <= ID_BYTES_MAX for one in encoded)


def test_strings_and_integers_are_different_ids_and_long_ones_are_hashed() -> None:
    assert (encode_id("7"), encode_id(7), encode_id(-7)) == (b"s7", b"i7", b"i-7")
    assert encode_id("x" * 63) == b"s" + b"x" * 63
    assert encode_id("x" * 64) != encode_id("x" * 65)
    assert encode_id("x" * 64)[:1] == encode_id(10**70)[:1] == b"h"
    assert len(encode_id(10**4299)) == 33
