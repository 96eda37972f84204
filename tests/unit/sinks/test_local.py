"""Races on local files that only a chosen moment shows."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from sinks.archive.fs import FileHandle
from sinks.archive.local import LocalFileSystem

lock = fcntl.flock


@pytest.mark.parametrize("open_file", [LocalFileSystem.append, LocalFileSystem.create], ids=["append", "create"])
def test_a_file_claimed_between_open_and_lock_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_file: Callable[[LocalFileSystem, str], FileHandle]
) -> None:
    fs = LocalFileSystem()
    path, claimed = tmp_path / "file.log", tmp_path / "claimed.log"
    if open_file is LocalFileSystem.append:
        path.write_bytes(b"one\n")

    def claim_first(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB and path.exists():
            path.rename(claimed)
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", claim_first)
    with pytest.raises(FileNotFoundError):
        open_file(fs, str(path))
    assert fs.recover_lease(str(claimed))
