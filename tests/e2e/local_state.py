"""What a stopped worker keeps of a partition on its disk, and what may happen to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

from domain.rows import Kind, pack_cell, table_prefix, unpack_cell
from tables.rocksdb import Position, RocksSettings, RocksStore
from tests.e2e.scene import Scene
from tests.e2e.workers import Worker


class LocalState:
    """Of one partition. Files are damaged as they lie there; the worker must not run."""

    def __init__(self, scene: Scene, worker: Worker, partition: int) -> None:
        self._worker = worker
        self._copies = scene.folder / "copies"
        self._place = f"{scene.topic}-{partition}"
        self.path = scene.folder / "data" / worker.name / "state" / self._place

    def keep(self, name: str, path: Path | None = None) -> Path:
        """A copy; of a running worker's directory it is what a kill would leave, or worse."""
        assert path is not None or not self._worker.running
        copy = self._copies / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path or self.path, copy)
        return copy

    def replace(self, copy: Path) -> None:
        shutil.rmtree(self.path)
        shutil.copytree(copy, self.path)

    def remove(self) -> None:
        shutil.rmtree(self.path)

    def position(self, path: Path | None = None) -> Position:
        """Looked at in a copy: opening changes files."""
        store = RocksStore(self.keep("looked-at", path or self.path), RocksSettings())
        found = store.position()
        store.close()
        assert found is not None
        return found

    def file(self, pattern: str) -> Path:
        """The newest of a kind."""
        found = sorted(self.path.glob(pattern))
        assert found, f"{self._place} has no {pattern}: {sorted(one.name for one in self.path.iterdir())}"
        return found[-1]

    def cut_short(self, pattern: str, part: float) -> str:
        """Leave that part of a file."""
        path = self.file(pattern)
        size = path.stat().st_size
        left = int(size * part)
        os.truncate(path, left)
        return f"{path.name}: {left} of {size} bytes left"

    def flip(self, pattern: str, r: Random) -> str:
        path = self.file(pattern)
        content = bytearray(path.read_bytes())
        at, bit = r.randrange(len(content)), r.randrange(8)
        content[at] ^= 1 << bit
        path.write_bytes(content)
        return f"{path.name}: bit {bit} of byte {at} of {len(content)} flipped"

    def wrong_cell(self, table: str) -> tuple[bytes, bytes]:
        """The first cell of the table with another counter than it has."""
        store = RocksStore(self.path, RocksSettings())
        try:
            key, value = next(store.scan(table_prefix(Kind.CELL, table)))
        finally:
            store.close()
        cell = unpack_cell(value)
        return key, pack_cell(cell.on_time + 1, cell.late, cell.offset)

    def put(self, key: bytes, value: bytes) -> None:
        store = RocksStore(self.path, RocksSettings())
        store.commit([(key, value)])
        store.close()

    def restored(self) -> list[dict[str, Any]]:
        """How it was restored since the worker's last start, each time."""
        return [entry for entry in self._worker.entries("restored") if entry["partition"] == self._place]

    def checked(self) -> bool:
        """Whether what was restored last has been compared with its certificates."""
        told = [
            entry["message"]
            for message in ("restored", "cells checked")
            for entry in self._worker.entries(message)
            if entry["partition"] == self._place
        ]
        return told.count("cells checked") >= 1
