"""Watches the API while load runs: nothing shown exceeds what was sent, and nothing ever falls."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self

from tests.e2e.driver import Driver
from tests.e2e.workers import Worker, get

POLL_S = 0.2


class Monitor:
    """Asks every running worker in turn; an answer may be missing, but never wrong."""

    def __init__(self, driver: Driver, workers: Sequence[Worker], tables: Sequence[str]) -> None:
        self._driver = driver
        self._workers = workers
        self._tables = tables
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="monitor")
        self._failed: BaseException | None = None
        self._highest: dict[tuple[str, str, int], int] = {}
        self.answers = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self.check()
            assert self.answers > 2, f"only {self.answers} answers were looked at"

    def check(self) -> None:
        """Raises what it saw go wrong."""
        if self._failed is not None:
            raise self._failed

    def _main(self) -> None:
        try:
            while not self._stop.wait(POLL_S):
                for worker in self._workers:
                    self._ask(worker)
        except BaseException as err:  # noqa: BLE001 - raised again in the test's thread
            self._failed = err

    def _ask(self, worker: Worker) -> None:
        up = worker.entries("worker up") if worker.running and worker.watched else []
        if not up:
            return
        url = up[0]["web"]
        try:
            tallies = get(url, "/api/v1/tallies")
            windows = {table: get(url, f"/api/v1/tables/{table}/windows") for table in self._tables}
        except OSError:
            return  # it was killed meanwhile
        if not worker.watched:
            return
        for table in tallies["tables"]:
            self._look(worker, table)
        for name, answer in windows.items():
            for as_of in answer["as_of"]:
                self._never_falls(worker, "position", name, as_of["partition"], as_of["next_offset"])
            if answer["complete"]:
                for window in answer["windows"]:
                    for kind in ("count", "expired"):
                        self._never_falls(worker, f"{kind} of window", name, window["start_ms"], window[kind])
        self.answers += 1

    def _look(self, worker: Worker, table: dict[str, Any]) -> None:
        for one in table["partitions"]:
            partition, records = one["partition"], one["records"]
            self._never_falls(worker, "records", table["table"], partition, records)
            attempted = self._driver.attempted[partition]
            assert records <= attempted, f"{worker.name}: {table['table']} shows {records} of {attempted} sent"

    def _never_falls(self, worker: Worker, what: str, table: str, where: int, value: int) -> None:
        known = self._highest.get((what, table, where), 0)
        assert value >= known, f"{worker.name}: {what} {where} of {table} fell from {known} to {value}"
        self._highest[what, table, where] = value
