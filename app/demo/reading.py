"""What is there at the end, read as a stranger reads it: the changelog topic, the archive's files, the web."""

from __future__ import annotations

import asyncio
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.cli_inspect import fetch
from app.demo.errors import DemoError
from app.demo.settings import APP, TABLE, TOPIC
from app.demo.verdict import MALFORMED_SLOT, TOP, Archived, Contents, Live, LiveWindow, State, content_of
from domain.errors import RecountError
from domain.progress import decode_counts, decode_follower, decode_state
from domain.rows import Kind, Role, RowKey, parse_key, unpack_cell, unpack_certificate
from domain.spec import changelog_topic
from sinks.archive.fs import FileSystem
from sinks.archive.reader import lines_of, list_open, list_parts

DEADLINE_S = 60.0
FETCH_BYTES = 4 << 20
API = "/api/v1"

Partitions = dict[int, dict[str, Any]]


async def read_state(bootstrap_servers: str, partition: int) -> State:
    """The committed rows of a partition's changelog; of a row written more than once, the last."""
    place = TopicPartition(changelog_topic(APP, TOPIC), partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    await consumer.start()
    rows: dict[bytes, bytes | None] = {}
    try:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        deadline = time.monotonic() + DEADLINE_S
        while await consumer.position(place) < end:
            if time.monotonic() > deadline:
                raise DemoError(f"{place.topic}-{partition} can't be read to its end within {DEADLINE_S:.0f} s")
            for record in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
                rows[record.key] = record.value
    finally:
        await consumer.stop()
    return state_of(rows)


def state_of(rows: Mapping[bytes, bytes | None]) -> State:
    """Decode the rows of one partition; tombstones and rows of other kinds say nothing here."""
    state = State()
    for raw, value in rows.items():
        key = parse_key(raw)
        if key is None or value is None:
            continue
        if key.kind is Kind.CELL:
            state.cells[key.start_ms, key.tail] = unpack_cell(value)
        elif key.kind is Kind.CERTIFICATE:
            state.certificates[key.start_ms] = unpack_certificate(value)
        elif key.kind is Kind.PROGRESS:
            _take_progress(state, key, value)
    return state


def _take_progress(state: State, key: RowKey, value: bytes) -> None:
    if key.tail == Role.STATE.value.encode():
        state.progress = decode_state(value)
    elif key.tail == Role.ARCHIVE.value.encode():
        state.archive_next_offset = decode_follower(value).next_offset
    elif key.tail == Role.COUNTS.value.encode():
        state.counts = decode_counts(value)


def open_paths(fs: FileSystem, root: str) -> list[str]:
    """Files of the archive that aren't committed yet."""
    return [status.path for _, status in list_open(fs, root, TOPIC)]


def read_archive(fs: FileSystem, root: str, partitions: int) -> dict[int, Archived]:
    """Every line of every committed file, by partition. Raises `CorruptRowError`, `SinkUnavailableError`."""
    found: dict[int, tuple[list[int], list[int], list[int]]] = {p: ([], [], []) for p in range(partitions)}
    for part, status in list_parts(fs, root, TOPIC):
        slot = MALFORMED_SLOT if part.slot.malformed else part.slot.start_ms
        for line in lines_of(fs, status.path, whole=True):
            if line.topic != TOPIC or line.partition != part.partition:
                raise DemoError(f"{status.path} holds a line of {line.topic}-{line.partition}")
            offsets, contents, slots = found[line.partition]
            offsets.append(line.offset)
            contents.append(content_of(line.timestamp, line.key, line.value))
            slots.append(slot)
    return {partition: _archived(*columns) for partition, columns in found.items()}


def _archived(offsets: Sequence[int], contents: Sequence[int], slots: Sequence[int]) -> Archived:
    records = Contents(np.array(offsets, np.int64), np.array(contents, np.int64))
    return Archived(records, np.array(slots, np.int64))


async def ask(url: str, path: str, **query: str | int) -> Any:
    """A worker's answer, None while it doesn't give one."""
    try:
        return await asyncio.to_thread(fetch, url, f"{API}{path}", query, None)
    except RecountError:
        return None


async def partitions_seen(url: str) -> Partitions:
    """All partitions as one worker sees them, its own and the others'; empty unless all are served."""
    answer = await ask(url, "/partitions")
    if answer is None or not answer["complete"]:
        return {}
    return {one["partition"]: one for one in answer["partitions"]}


async def own_partitions(url: str) -> Partitions:
    """The partitions this worker counts now, with what it has committed."""
    answer = await ask(url, "/partitions", scope="local")
    statuses = [] if answer is None else answer.get("statuses", [])  # empty ones are left out
    return {one["partition"]: one for one in statuses if one["state"] == "running"}


async def read_live(url: str, start_ms: int, end_ms: int) -> Live:
    """Tallies, windows and their largest keys, as any reader gets them from a worker."""
    base = f"/tables/{TABLE}"
    table, windows = await ask(url, base), await ask(url, f"{base}/windows", **{"from": start_ms, "to": end_ms})
    if table is None or windows is None:
        raise DemoError(f"{url} doesn't answer about {TABLE}")
    complete = table["complete"] and windows["complete"]
    found = {}
    for one in windows["windows"]:
        top = None
        if not one["dropped"]:
            answer = await ask(url, f"{base}/windows/{one['start_ms']}", top=TOP)
            if answer is None:
                raise DemoError(f"{url} doesn't answer about the window at {one['start']}")
            complete = complete and answer["complete"] and answer["top_exact"]
            top = [(row["key"].encode(), row["on_time"], row["late"]) for row in answer["top"]]
        found[one["start_ms"]] = LiveWindow(one["on_time"], one["late"], one["expired"], top)
    return Live(complete, table["tallies"], found)


def key_address(url: str, key: str) -> str:
    return f"{url}{API}/tables/{TABLE}/keys/{urllib.parse.quote(key, safe='')}"
