"""The bytes of a cell's key, and of an event id."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from domain.spec import KEY_BYTES_MAX, KeyField, KeyType

RawKey = str | int | bool | tuple[str | int | bool, ...]
"""A key as the fold counts it; within one table equal raw keys have equal bytes and the other way round."""

ID_BYTES_MAX = 64
PYTHON_TYPES: dict[KeyType, type] = {KeyType.STRING: str, KeyType.INT: int, KeyType.BOOL: bool}


def encode_key(raw: RawKey) -> bytes:
    """One field: its text; several: a compact JSON array. Raises UnicodeEncodeError on a lone surrogate."""
    if isinstance(raw, str):
        return raw.encode()
    return msgspec.json.encode(raw)


def key_fits(raw: RawKey) -> bool:
    """Whether the key can be written at all, and in KEY_BYTES_MAX bytes."""
    try:
        return len(encode_key(raw)) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        return False


def kafka_key_texts(keys: Sequence[bytes | None]) -> list[str | None]:
    """Kafka keys as strict UTF-8, None where absent or not UTF-8."""
    try:
        return [None if key is None else key.decode() for key in keys]
    except UnicodeDecodeError:
        return [_text(key) for key in keys]


def _text(key: bytes | None) -> str | None:
    try:
        return None if key is None else key.decode()
    except UnicodeDecodeError:
        return None


def key_types(fields: tuple[KeyField, ...]) -> tuple[type, ...]:
    return tuple(PYTHON_TYPES[one.type] for one in fields)


def encode_id(raw: str | int) -> bytes:
    """An event id as bounded bytes, strings and integers apart; long ones by their SHA-256."""
    body = b"s" + raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else b"i%d" % raw
    return body if len(body) <= ID_BYTES_MAX else b"h" + hashlib.sha256(body).digest()
