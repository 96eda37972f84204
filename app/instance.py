"""One worker per instance name and data folder of a host."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from domain.errors import DiskError, RefusedError


class InstanceLock:
    """Held until the process ends, however it ends. Raises `RefusedError` when another one holds it, `DiskError`."""

    def __init__(self, folder: Path, instance: str) -> None:
        try:
            self._take(folder, instance)
        except OSError as err:
            raise DiskError(str(folder), err.strerror or repr(err)) from err

    def _take(self, folder: Path, instance: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise RefusedError(
                f"instance {instance}",
                f"another worker on this host (pid {holder or 'unknown'}) counts under this name in {folder}",
                "Give each worker its own app.instance",
            ) from err
        os.truncate(self._file, 0)
        os.pwrite(self._file, b"%d\n" % os.getpid(), 0)
