"""A final: the on-time count of one key in a window that has closed. Sent once, in the source's partition."""

from __future__ import annotations

import msgspec

from domain.rows import Row


class Final(msgspec.Struct, frozen=True):
    """The value of a finals record; its key is the cell's. Whoever reads them adds up the partitions.

    `offset` is that of the window's last on-time event in the partition.
    """

    table: str
    window_start: int
    partition: int
    on_time: int
    offset: int
    partial: bool


def encode_final(key: bytes, final: Final) -> Row:
    return key, msgspec.json.encode(final)
