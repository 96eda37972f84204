"""Rows in HBase put by hand with plain happybase: the outside contract spelled out once more."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from dataclasses import dataclass

import happybase

from domain.certificate import Certificate, ClassCount
from domain.rows import pack_certificate

BASE = 2**48


def row_of(start_ms: int, key: bytes) -> bytes:
    return b"%02x|%015d|" % (zlib.crc32(key) & 255, start_ms) + key


def count(value: int) -> bytes:
    return struct.pack(">Q", value)


def certificate(on_time: int = 0, late: int = 0, expired: int = 0, *, partial: bool = False) -> Certificate:
    classes = [ClassCount(n, 0, 0, n - 1) if n else ClassCount() for n in (on_time, late, expired)]
    return Certificate(99, classes[0], classes[1], classes[2], partial=partial)


@dataclass
class Stranger:
    """Another program at the tables of one table of ours."""

    address: str
    table: str

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        self.connection = happybase.Connection(host, int(port), timeout=20_000)
        self.counts = self.connection.table(f"recount_{self.table}")
        self.windows = self.connection.table(f"recount_{self.table}_windows")

    def make_tables(self, **family: int) -> None:
        for name in (f"recount_{self.table}", f"recount_{self.table}_windows"):
            self.connection.create_table(name, {"c": {"max_versions": 1, **family}})

    def cell(self, start_ms: int, key: bytes, at: int = 100, **columns: int) -> None:
        """`n0=3`: three on time in partition 0, true at offset `at`."""
        values = {b"c:%s" % name.encode(): count(value) for name, value in columns.items()}
        self.counts.put(row_of(start_ms, key), values, timestamp=BASE + at + 1)

    def certify(self, start_ms: int, partition: int, one: Certificate, at: int = 100) -> None:
        value = pack_certificate(one)
        self.windows.put(b"%015d" % start_ms, {b"c:w%d" % partition: value}, timestamp=BASE + at + 1)

    def frontier(self, partition: int, offset: int, stream_time: int, archive: int | None = None) -> None:
        value = struct.pack(">qq", offset, stream_time)
        self.windows.put(b"frontier", {b"c:c%d" % partition: value}, timestamp=BASE + offset + 1)
        if archive is not None:
            self.windows.put(b"frontier", {b"c:a%d" % partition: struct.pack(">q", archive)}, timestamp=BASE + archive)

    def own(self, app: str, topic: str, fingerprint: str) -> None:
        owner = {"app": app, "topic": topic, "fingerprint": fingerprint, "table_id": "0011", "format": 1}
        self.windows.put(b"owner", {b"c:owner": json.dumps(owner).encode()})

    def close(self) -> None:
        self.connection.close()


def new_table_name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"
