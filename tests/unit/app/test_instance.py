"""The folder of an instance: one worker at a time, and a word when it can't be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.instance import InstanceLock
from domain.errors import DiskError, RefusedError


def test_a_second_worker_of_a_name_is_refused(tmp_path: Path) -> None:
    held = InstanceLock(tmp_path / "w1", "w1")
    with pytest.raises(RefusedError, match="another worker on this host"):
        InstanceLock(tmp_path / "w1", "w1")
    del held


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=rf"{tmp_path}/file/w1: Not a directory; make room there, or make it writable"):
        InstanceLock(tmp_path / "file" / "w1", "w1")
