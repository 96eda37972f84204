"""What the archive's contract tests share: stores, batches, waits, children to kill."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from domain.record import Batch, TimedBatch
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.archive.fs import FileSystem, open_file_system
from sinks.archive.reader import list_open, list_parts, read_lines

REPOSITORY = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("archive_child.py")
OPTIONS = {"dfs.replication": "1", "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER"}
TOPIC = "clicks"
WINDOW_MS = 300_000
T0 = 1_795_456_800_000  # 2026-11-23 18:00 UTC
DEADLINE_S = 30.0


class Store:
    def __init__(self, url: str) -> None:
        self.url = url
        self.fs, self.root = open_file_system(url, OPTIONS)

    @property
    def is_hdfs(self) -> bool:
        return self.url.startswith("hdfs:")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def another_client(self) -> FileSystem:
        return open_file_system(self.url, OPTIONS)[0]

    def archive(self, now_ms: Callable[[], int] = lambda: T0, **settings: int) -> Archive:
        return Archive(ArchiveSettings(self.url, options=OPTIONS, **settings), now_ms)

    def ids(self) -> set[str]:
        return {line.id for line in read_lines(self.fs, self.root, TOPIC)}

    def open_names(self) -> list[str]:
        return [status.name for _, status in list_open(self.fs, self.root, TOPIC)]

    def committed_names(self) -> list[str]:
        return [status.name for _, status in list_parts(self.fs, self.root, TOPIC)]


def batch(
    start: int,
    times: Sequence[int | None],
    keys: Sequence[bytes | None] | None = None,
    values: Sequence[bytes | None] | None = None,
    partition: int = 0,
) -> TimedBatch:
    """Make a batch of one record per time from offset `start` on; a time of None makes a malformed record."""
    count = len(times)
    offsets = np.arange(start, start + count, dtype=np.int64)
    return TimedBatch(
        Batch(
            topic=TOPIC,
            partition=partition,
            start=start,
            end=start + count,
            offsets=offsets,
            timestamps=T0 + offsets,
            keys=keys if keys is not None else [b"key-%d" % offset for offset in offsets],
            values=values if values is not None else [b'{"n": %d}' % offset for offset in offsets],
        ),
        np.array([0 if time is None else time for time in times], dtype=np.int64),
        np.array([time is not None for time in times]),
    )


def ids_of(offsets: Sequence[int] | range, partition: int = 0) -> set[str]:
    return {f"{TOPIC}-{partition}-{offset}" for offset in offsets}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE_S:g} s in vain for: {what}")
        time.sleep(0.05)


def recover_all(archive: Archive, partition: int = 0) -> None:
    wait_until(lambda: archive.recover(TOPIC, partition).complete, "recovery of every file")


@contextmanager
def child(role: str, store: Store) -> Iterator[subprocess.Popen[str]]:
    """Run archive_child.py in a role; whoever uses it talks by lines, and it is dead at the end."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, str(CHILD), role, store.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        with process:
            yield process
            process.kill()
    finally:
        process.kill()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
