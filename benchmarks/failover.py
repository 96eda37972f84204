"""Two workers under load, one killed: how long until the other has committed new counts of every partition it held."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from benchmarks import memory
from benchmarks.load import PARTITIONS, send
from benchmarks.worker import Sinks, cpu_seconds, write_config
from tests.e2e.workers import Worker
from tests.waiting import wait_for

TOPIC, APP = "failover", "bench-failover"
RATE = 2_000
TURN_S = 0.05
SETTLED_S = 240.0
STAYS, DIES = "stays", "dies"


@dataclass(frozen=True, slots=True)
class Failover:
    seconds: float
    cpu_s: float  # of the other, meanwhile: on a busy machine it waits for its turn
    restore_s: float  # of it: the longest restore of a partition
    partitions: int
    cold: int


class FailoverBench:
    """`cells` are those of the worker that dies: half of all."""

    def __init__(self, bootstrap: str, folder: Path, cells: int, session_s: int) -> None:
        self._bootstrap = bootstrap
        self._data = folder / "data"
        keys = 2 * cells // memory.WINDOWS
        asyncio.run(send(bootstrap, TOPIC, memory.cells(keys)))
        config = write_config(folder, bootstrap, TOPIC, APP, Sinks(), 0, session_s)
        self._stays, self._dies = Worker(STAYS, config, folder), Worker(DIES, config, folder)

    def run(self, kills: int) -> list[Failover]:
        self._stays.start()
        self._dies.start()
        with _Load(self._bootstrap):
            return [self._kill() for _ in range(kills)]

    def close(self) -> None:
        self._stays.close()
        self._dies.close()

    def _kill(self) -> Failover:
        lost = wait_for("both to have counted everything", self._settled, SETTLED_S)
        for place in lost:  # as on another host: it has nothing of them
            shutil.rmtree(self._data / STAYS / "state" / f"{TOPIC}-{place}", ignore_errors=True)
        seen = len(self._stays.entries("restored"))
        lost = _held(self._dies)
        began, cpu_s = time.monotonic(), cpu_seconds(self._stays.pid)
        self._dies.kill()
        wait_for("the other to commit", lambda: _went_on(_held(self._stays), lost), SETTLED_S)
        seconds, cpu_s = time.monotonic() - began, cpu_seconds(self._stays.pid) - cpu_s
        restored = [
            one for one in self._stays.entries("restored")[seen:] if int(one["partition"].rsplit("-", 1)[1]) in lost
        ]
        shutil.rmtree(self._data / DIES)
        self._dies.start()
        cold = sum(one["cold"] for one in restored)
        return Failover(seconds, cpu_s, max(one["seconds"] for one in restored), len(lost), cold)

    def _settled(self) -> dict[int, dict[str, Any]] | None:
        """What the one to be killed holds, once both hold half and lag little."""
        held = [_held(one) for one in (self._stays, self._dies)]
        rows = [row for one in held for row in one.values()]
        even = all(len(one) == PARTITIONS // 2 for one in held)
        if even and all(row["checkpoints"] and row["end_offset"] - row["next_offset"] < 2 * RATE for row in rows):
            return held[1]
        return None


def _held(worker: Worker) -> dict[int, dict[str, Any]]:
    """The partitions a worker owns and answers for itself."""
    try:
        rows = worker.get("/api/v1/partitions?scope=local").get("statuses", [])
    except OSError:
        return {}
    return {row["partition"]: row for row in rows if row["state"] != "restoring" and row["end_offset"] is not None}


def _went_on(now: dict[int, dict[str, Any]], lost: dict[int, dict[str, Any]]) -> bool:
    return all(
        place in now and now[place]["checkpoints"] and now[place]["next_offset"] > row["next_offset"]
        for place, row in lost.items()
    )


class _Load:
    """Events of now, for all partitions, from a thread of its own."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _send(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap)
        await producer.start()
        random = np.random.default_rng(1)
        due = time.monotonic()
        while not self._over.is_set():
            now_ms = int(time.time() * 1000)
            for number, key in enumerate(random.integers(0, 10_000, int(RATE * TURN_S)).tolist()):
                value = b'{"page":"/articles/%d","ts":%d}' % (key, now_ms)
                await producer.send(TOPIC, value, partition=number % PARTITIONS)
            due += TURN_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await producer.stop()
