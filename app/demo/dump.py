"""The topic as a plain consumer sees it, for the recount: `python -m app.demo.dump BOOTSTRAP TOPIC FOLDER P...`.

Writes per partition `records-P.ndjson`, as the oracle reads it, and `records-P.npy`: offsets and contents, a row each.
"""

from __future__ import annotations

import asyncio
import sys
import time
from binascii import b2a_base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.demo.verdict import Contents, content_of

DEADLINE_S = 120.0
FETCH_BYTES = 4 << 20


def records_path(folder: Path, partition: int) -> Path:
    return folder / f"records-{partition}.ndjson"


def contents_path(folder: Path, partition: int) -> Path:
    return folder / f"records-{partition}.npy"


def read_contents(folder: Path, partition: int) -> Contents:
    offsets, contents = np.load(contents_path(folder, partition))
    return Contents(offsets, contents)


async def dump(bootstrap_servers: str, topic: str, folder: Path, partitions: Iterable[int]) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    try:
        for partition in partitions:
            await _dump_one(consumer, TopicPartition(topic, partition), folder)
    finally:
        await consumer.stop()


async def _dump_one(consumer: Any, place: TopicPartition, folder: Path) -> None:
    consumer.assign([place])
    end = (await consumer.end_offsets([place]))[place]
    offsets: list[int] = []
    contents: list[int] = []
    deadline = time.monotonic() + DEADLINE_S
    with records_path(folder, place.partition).open("wb") as file:
        while await consumer.position(place) < end:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{place.topic}-{place.partition}: not read to {end} within {DEADLINE_S:.0f} s")
            for record in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
                file.write(line_of(record))
                offsets.append(record.offset)
                contents.append(content_of(record.timestamp, record.key, record.value))
    np.save(contents_path(folder, place.partition), np.array([offsets, contents], np.int64))


def line_of(record: Any) -> bytes:
    """The record as a line of the oracle's input."""
    return b'{"topic":"%s","partition":%d,"offset":%d,"timestamp":%d,"key":%s,"value":%s}\n' % (
        record.topic.encode(),
        record.partition,
        record.offset,
        record.timestamp,
        _base64(record.key),
        _base64(record.value),
    )


def _base64(data: bytes | None) -> bytes:
    return b"null" if data is None else b'"%s"' % b2a_base64(data, newline=False)


if __name__ == "__main__":
    asyncio.run(dump(sys.argv[1], sys.argv[2], Path(sys.argv[3]), map(int, sys.argv[4:])))
