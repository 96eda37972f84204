"""A process for contract tests to kill: it writes to an archive, tells how far it got, and waits for the next word."""

from __future__ import annotations

import sys

from domain.errors import FencedError, SinkUnavailableError
from tests.contract.archive_support import T0, TOPIC, WINDOW_MS, Store, batch


def say(line: object) -> None:
    print(line, flush=True)


def write_file(store: Store) -> None:
    """Write a file with two synced lines and half a line that isn't; then go on as told."""
    handle = store.fs.create(store.path("file.log"))
    handle.write(b"one\n")
    handle.sync()
    handle.write(b"two\n")
    handle.sync()
    handle.write(b"thr")
    say("written")
    for _ in sys.stdin:
        try:
            handle.write(b"ee\n")
            handle.sync()
            say("synced")
        except (FencedError, SinkUnavailableError):
            say("refused")


def write_archive(store: Store) -> None:
    """Sync a batch of two windows and a malformed record for each word; the last one is never synced."""
    sink = store.archive().partition(TOPIC, 0, 0, WINDOW_MS)
    offset = 0
    for _ in range(3):
        sink.write(batch(offset, [T0 + offset, T0 + WINDOW_MS, None, T0 + offset]))
        offset += 4
        progress = sink.sync(None)
    say(progress)
    for _ in sys.stdin:
        sink.write(batch(offset, [T0 + 1, T0 + WINDOW_MS]))
        offset += 2
        try:
            say(sink.sync(None))
        except FencedError:
            say("fenced")


if __name__ == "__main__":
    {"file": write_file, "archive": write_archive}[sys.argv[1]](Store(sys.argv[2]))
