"""That a partition's cells did not add up once: kept beside its directory, which is wiped then."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tables.rocksdb import sync_directory


class _Noted(msgspec.Struct):
    state_id: str
    found: str


class Suspicion:
    """Of one partition's directory. It outlasts the directory and the process, not the state it speaks of."""

    def __init__(self, directory: Path) -> None:
        self._path = directory.with_name(f"{directory.name}.mismatch")

    def noted(self, state_id: str) -> bool:
        """Whether it was of this state already."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Noted).state_id == state_id
        except (FileNotFoundError, msgspec.MsgspecError):
            return False

    def note(self, state_id: str, found: str) -> None:
        """Durable when it returns."""
        half = self._path.with_name(f"{self._path.name}.half")
        with half.open("wb") as file:
            file.write(msgspec.json.encode(_Noted(state_id, found)))
            file.flush()
            os.fsync(file.fileno())
        half.rename(self._path)
        sync_directory(self._path.parent)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
