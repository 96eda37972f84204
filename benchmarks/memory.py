"""Memory of a worker whose state holds many keys in many windows: its peak, with default settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.load import CHUNK, PARTITIONS, send
from benchmarks.worker import Run, Sinks, run_worker, write_config

TOPIC = "cells"
WINDOWS = 24
WINDOW_MS = 300_000
DEADLINE_S = 3600.0


def preload(bootstrap: str, keys: int) -> int:
    """Touch every key in every window once, then as many cells of all windows again; returns the number of records."""
    return asyncio.run(send(bootstrap, TOPIC, cells(keys)))


def cells(keys: int) -> Iterator[tuple[int, list[bytes]]]:
    """Events of a few windows at a time, and keys in no order: no cell is near the last one."""
    random = np.random.default_rng(7)
    first_ms = int(time.time() * 1000) // WINDOW_MS * WINDOW_MS - (WINDOWS - 1) * WINDOW_MS
    mine = [np.arange(partition, keys, PARTITIONS) for partition in range(PARTITIONS)]
    for window in range(WINDOWS):
        for partition in range(PARTITIONS):
            found = random.permutation(mine[partition])
            yield from _dealt(
                partition, found, first_ms + window * WINDOW_MS + random.integers(0, WINDOW_MS, len(found))
            )
    for partition in range(PARTITIONS):
        found = random.choice(mine[partition], len(mine[partition]))
        yield from _dealt(partition, found, first_ms + random.integers(0, WINDOWS * WINDOW_MS, len(found)))


def _dealt(partition: int, keys: np.ndarray, times: np.ndarray) -> Iterator[tuple[int, list[bytes]]]:
    for at in range(0, len(keys), CHUNK):
        rows = zip(keys[at : at + CHUNK].tolist(), times[at : at + CHUNK].tolist(), strict=True)
        yield partition, [b'{"page":"/articles/%d","ts":%d}' % row for row in rows]


def run(bootstrap: str, folder: Path, port: int, records: int) -> Run:
    config = write_config(folder, bootstrap, TOPIC, "bench-memory", Sinks(), port)
    return run_worker(config, port, records, DEADLINE_S)
