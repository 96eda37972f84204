"""A few threads for slow calls that nobody waits for, such as closing a file on HDFS (some 450 ms)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

WORKERS = 32  # they wait for servers, they don't compute
PENDING_MAX = 64


class Background:
    """Daemon threads: unlike an executor's they never hold up the end of the process."""

    def __init__(self, workers: int = WORKERS, pending_max: int = PENDING_MAX) -> None:
        self._workers = workers
        self._jobs: queue.Queue[tuple[Callable[[], None], Future[None]] | None] = queue.Queue(pending_max)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False

    def try_submit(self, job: Callable[[], None]) -> Future[None] | None:
        """Take a job, or return None when too many wait already (or it is closed)."""
        future: Future[None] = Future()
        with self._lock:
            if self._closed:
                return None
            try:
                self._jobs.put_nowait((job, future))
            except queue.Full:
                return None
            if len(self._threads) < self._workers:
                thread = threading.Thread(target=self._run, name="archive-background", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def close(self, deadline_s: float) -> bool:
        """Take no more jobs, run those taken; False if some still ran at the deadline."""
        with self._lock:
            self._closed = True
        end = time.monotonic() + deadline_s
        for _ in self._threads:
            try:
                self._jobs.put(None, timeout=max(0.0, end - time.monotonic()))
            except queue.Full:
                return False
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (taken := self._jobs.get()) is not None:
            job, future = taken
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - kept for whoever looks at the future
                future.set_exception(error)
            else:
                future.set_result(None)
