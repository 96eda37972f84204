"""Which attempts of its own a process takes for alive."""

from __future__ import annotations

from pathlib import Path

from sinks.archive.archive import Archive, ArchiveSettings, PartitionArchive
from sinks.archive.fs import FileStatus
from sinks.archive.local import LocalFileSystem
from sinks.archive.recovery import Recovered
from tests.contract.archive_support import T0, TOPIC, WINDOW_MS, batch


class SlowLists(LocalFileSystem):
    """A new assignment of the same process writes its first file while the first folder is listed."""

    def __init__(self) -> None:
        self.archive: Archive | None = None
        self.sink: PartitionArchive | None = None

    def list(self, path: str) -> list[FileStatus]:
        if self.archive is not None and self.sink is None:
            self.sink = self.archive.partition(TOPIC, 0, 0, WINDOW_MS)
            self.sink.write(batch(0, [T0]))
            self.sink.sync(None)
        return super().list(path)


def test_a_file_begun_while_recovery_looks_is_left_alone(tmp_path: Path) -> None:
    fs = SlowLists()
    archive = fs.archive = Archive(ArchiveSettings(f"file://{tmp_path}"), lambda: T0, file_system=fs)
    assert archive.recover(TOPIC, 0, deadline_s=0) == Recovered()
    assert fs.sink is not None
    fs.sink.write(batch(1, [T0]))
    assert fs.sink.sync(None) == 2


def test_a_sink_that_never_got_a_record_takes_no_share_of_the_open_files(tmp_path: Path) -> None:
    """An assignment that is over before it began drops its sink without a word."""
    archive = Archive(ArchiveSettings(f"file://{tmp_path}", max_open_files=8), lambda: T0)
    for _ in range(100):
        archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0]))
    assert archive.max_open_files() == 8
