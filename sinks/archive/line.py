r"""The archive's text lines: one record, one line, key and value byte-exact back.

`topic-partition-offset TAB kafka timestamp ms TAB key TAB value NL`, with Hive's text escapes: backslash, tab,
newline and carriage return as `\\ \t \n \r`, null as `\N` (a literal backslash is always doubled, so no key reads
as null). Topics of a binary format will carry key and value as base64 in the same two columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from domain.errors import CorruptRowError
from domain.record import record_id

SLICE = 1000  # longer joins are slower: they leave the processor's cache
NULL = rb"\N"
ESCAPES = ((b"\\", rb"\\"), (b"\t", rb"\t"), (b"\n", rb"\n"), (b"\r", rb"\r"))
UNESCAPED = {escaped: raw for raw, escaped in ESCAPES}

_ID = re.compile(rb"([A-Za-z0-9._-]{1,249})-(0|[1-9][0-9]{0,9})-(0|[1-9][0-9]{0,18})")
_TIMESTAMP = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_ESCAPE = re.compile(rb"\\.?", re.DOTALL)


class CorruptLineError(CorruptRowError):
    """A line that no writer of ours wrote whole."""

    def __init__(self, problem: str, line: bytes) -> None:
        super().__init__(f"archive line: {problem}: {line[:200]!r}")


@dataclass(frozen=True, slots=True)
class Line:
    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None

    @property
    def id(self) -> str:
        return record_id(self.topic, self.partition, self.offset)


def format_lines(
    topic: str,
    partition: int,
    offsets: Sequence[int],
    timestamps: Sequence[int],
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
) -> bytes:
    """Return the lines of records given as columns of plain Python values."""
    # One format string for a whole slice beats one per record by a fifth.
    pattern = f"{topic}-{partition}-%d\t%d\t%s\t%s\n".encode()
    pieces = []
    for start in range(0, len(offsets), SLICE):
        end = min(start + SLICE, len(offsets))
        rows = zip(
            offsets[start:end],
            timestamps[start:end],
            _escaped(keys[start:end]),
            _escaped(values[start:end]),
            strict=True,
        )
        pieces.append(pattern * (end - start) % tuple(chain.from_iterable(rows)))
    return b"".join(pieces)


def _escaped(column: Sequence[bytes | None]) -> Sequence[bytes]:
    """Return the column as it stands in lines; the column itself where nothing needs an escape."""
    if None in column:
        present = _escaped([b"" if field is None else field for field in column])
        return [NULL if field is None else text for field, text in zip(column, present, strict=True)]
    fields: Sequence[bytes] = column  # type: ignore[assignment]  # no None in it
    joined = b"\n".join(fields)
    if joined.count(b"\n") != len(fields) - 1:
        return [_escaped_field(field) for field in fields]
    if b"\\" not in joined and b"\t" not in joined and b"\r" not in joined:
        return fields
    for raw, escaped in ESCAPES:
        if raw != b"\n":  # here they are ours: they part the fields
            joined = joined.replace(raw, escaped)
    return joined.split(b"\n")


def _escaped_field(field: bytes) -> bytes:
    for raw, escaped in ESCAPES:  # the backslash first
        field = field.replace(raw, escaped)
    return field


def parse_line(line: bytes) -> Line:
    """Return the record of a line without its newline. Raises `CorruptLineError`."""
    fields = line.split(b"\t")
    if len(fields) != 4:
        raise CorruptLineError(f"{len(fields)} fields, not 4", line)
    id_match = _ID.fullmatch(fields[0])
    if id_match is None:
        raise CorruptLineError("no record id", line)
    if _TIMESTAMP.fullmatch(fields[1]) is None:
        raise CorruptLineError("no timestamp", line)
    return Line(
        topic=id_match[1].decode(),
        partition=int(id_match[2]),
        offset=int(id_match[3]),
        timestamp=int(fields[1]),
        key=_unescaped(fields[2], line),
        value=_unescaped(fields[3], line),
    )


def _unescaped(text: bytes, line: bytes) -> bytes | None:
    if text == NULL:
        return None
    if b"\n" in text or b"\r" in text:
        raise CorruptLineError("a bare line end", line)
    if b"\\" not in text:
        return text
    try:
        return _ESCAPE.sub(lambda match: UNESCAPED[match[0]], text)
    except KeyError as error:
        raise CorruptLineError(f"unknown escape {error.args[0]!r}", line) from error
