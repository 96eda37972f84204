"""What the archive writes is what it wrote: changing these bytes makes old archives unreadable."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from domain.record import Batch, TimedBatch
from sinks.archive import archive as archive_module
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.archive.reader import list_open
from sinks.archive.verify import verify_partition

GOLDEN = Path(__file__).parents[2] / "golden" / "archive"
T0 = 1_795_421_100_000
NASTY = [None, b"", b"\\N", b"a\tb\nc\rd\\e", b"\x00\xff", "ü".encode(), b'{"page":"/a","n":1}', b'{"q":"\\""}']


def test_lines_and_ledger_are_those_on_file(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(archive_module, "random_token", lambda: "00112233445566aa")
    archive = Archive(ArchiveSettings(f"file://{tmp_path}"), lambda: T0)
    sink = archive.partition("clicks", 3, 40, 300_000)
    count = len(NASTY)
    times = np.array([T0 + n for n in range(count)], dtype=np.int64)
    windowed = np.array([n != 5 for n in range(count)])
    columns = Batch("clicks", 3, 40, 40 + count, np.arange(40, 40 + count), times, NASTY, list(reversed(NASTY)))
    sink.write(TimedBatch(columns, times, windowed))
    assert sink.sync(None) == 48
    assert sink.close() == 48
    written = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert written == {
        path.relative_to(GOLDEN).as_posix(): path.read_bytes() for path in GOLDEN.rglob("*") if path.is_file()
    }


def test_the_files_on_record_prove_themselves() -> None:
    from sinks.archive.local import LocalFileSystem

    verified = verify_partition(LocalFileSystem(), str(GOLDEN), "clicks", 3)
    assert (verified.start, verified.next_offset, verified.lines, verified.problems) == (40, 48, 8, [])
    assert len(list(list_open(LocalFileSystem(), str(GOLDEN), "clicks"))) == 2
