"""The archive's named points come in the order of its steps, and say what is durable by then."""

from __future__ import annotations

import threading
from pathlib import Path

from domain.probe import Point
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.archive.ledger import read_ledger
from sinks.archive.reader import list_open, list_parts
from tests.contract.archive_support import T0, TOPIC, WINDOW_MS, batch


class Watch:
    """Notes at each point what the files show."""

    def __init__(self, root: Path) -> None:
        self.archive = Archive(ArchiveSettings(f"file://{root}"), lambda: T0, probe=self)
        self.seen: list[tuple[Point, int, int, int]] = []  # and ledger lines, open files, final files
        self.published = threading.Event()

    def __call__(self, point: Point) -> None:
        fs, root = self.archive.fs, self.archive.root
        ledger = sum(1 for _ in read_ledger(fs, root, TOPIC, 0))
        found = len(list(list_open(fs, root, TOPIC))), len(list(list_parts(fs, root, TOPIC)))
        self.seen.append((point, ledger, *found))
        if point is Point.PART_PUBLISHED:
            self.published.set()


def test_a_sync_and_a_commit(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    sink = watch.archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + 1]))
    sink.sync(T0 + WINDOW_MS)
    assert watch.published.wait(10), "the file was not published within 10 s"
    assert watch.seen == [
        (Point.LINES_WRITTEN, 0, 1, 0),
        (Point.LINES_SYNCED, 0, 1, 0),
        (Point.LEDGER_SYNCED, 1, 1, 0),
        (Point.PART_CLOSED, 1, 1, 0),
        (Point.PART_PUBLISHED, 1, 0, 1),
    ]


def test_the_recovery_of_a_torn_file(tmp_path: Path) -> None:
    dead = Archive(ArchiveSettings(f"file://{tmp_path}"), lambda: T0)
    sink = dead.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + 1]))
    sink.sync(None)
    ((_, left),) = list_open(dead.fs, dead.root, TOPIC)
    with Path(left.path).open("ab") as file:
        file.write(b"half a li")
    sink.abort()
    watch = Watch(tmp_path)
    assert watch.archive.recover(TOPIC, 0).complete
    assert [(point, final) for point, _, _, final in watch.seen] == [
        (Point.ORPHANS_CLAIMED, 0),
        (Point.LEASES_TAKEN, 0),
        (Point.WHOLE_LINES_COPIED, 0),
        (Point.COPY_PUBLISHED, 1),
    ]
