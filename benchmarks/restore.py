"""A cold restore: a changelog of known cells, read into empty RocksDB directories."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from domain import rows
from domain.progress import StateProgress, encode
from domain.rows import Kind, Role, Row, progress_key, window_prefix
from domain.spec import changelog_topic
from tables.changelog import ChangelogSettings, ChangelogWriter

APP, TOPIC, TABLE = "bench-restore", "restored", "page_views"
PARTITIONS = 4
WINDOWS = 24
WINDOW_MS = 300_000
CHECKPOINT = 25_000
KEPT = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class Restore:
    rows: int
    cpu_s: float
    wall_s: float
    settled_cpu_s: float  # the restore's and that of the compactions it leaves behind


async def fill(bootstrap: str, cells: int) -> None:
    """Checkpoints as workers write them: cells of one window in no order, a progress row at the end of each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(changelog_topic(APP, TOPIC), PARTITIONS, 1, topic_configs=KEPT)])
    await admin.close()
    await asyncio.gather(*(_fill(bootstrap, partition, cells // PARTITIONS) for partition in range(PARTITIONS)))


async def _fill(bootstrap: str, partition: int, cells: int) -> None:
    writer = ChangelogWriter(ChangelogSettings(bootstrap), APP, TOPIC, partition)
    await writer.fence()
    random = np.random.default_rng(partition)
    for window in range(WINDOWS):
        keys = random.permutation(cells // WINDOWS).tolist()
        for at in range(0, len(keys), CHECKPOINT):
            await writer.commit(_checkpoint(window, keys[at : at + CHECKPOINT]))
    await writer.close()


def _checkpoint(window: int, keys: list[int]) -> list[Row]:
    prefix = window_prefix(Kind.CELL, TABLE, 1_700_000_100_000 + window * WINDOW_MS)
    found: list[Row] = [(b"%b/articles/%d" % (prefix, key), rows.pack_cell(key, 0, key)) for key in keys]
    progress = StateProgress(state_id="bench", fingerprint="bench", start=0, next_offset=1 << 40)
    found.append((progress_key(Role.STATE, TABLE), encode(progress)))
    return found


def run(bootstrap: str, folder: Path) -> Restore:
    command = [sys.executable, "-m", "benchmarks.restoring", bootstrap, APP, TOPIC, str(PARTITIONS), str(folder)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    shutil.rmtree(folder)
    return Restore(int(told[0]), *map(float, told[1:]))
