"""The independent recount: the topic read anew, and the oracle run over it, in processes of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.demo.dump import records_path
from app.demo.processes import CHECKOUT, Process, finish, stop_all
from app.demo.settings import TABLE, TOPIC, Setting
from app.demo.verdict import Truth
from domain.errors import RefusedError

ORACLE = CHECKOUT / "tests" / "spec" / "oracle.py"
AT_ONCE = 2
DEADLINE_S = 170.0
POLITE = 5  # the workers go first
STOP_S = 2.0


def require_oracle() -> None:
    """Raises `RefusedError` where there is nothing to agree with."""
    if not ORACLE.is_file():
        raise RefusedError(
            "the demo", f"the oracle it compares with isn't here ({ORACLE})", "run the demo from a checkout"
        )


class Recount:
    """Runs beside the workers; `truths` are there when `run` returns."""

    def __init__(self, setting: Setting, partitions: Sequence[int]) -> None:
        self.folder = setting.data / "recount"
        self._setting = setting
        self._partitions = partitions
        self._processes: list[Process] = []

    async def run(self, config_path: Path) -> dict[int, Truth]:
        """Read the topic to its end, then recount each partition, a few at a time."""
        self.folder.mkdir()
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(partition: int) -> Truth:
            async with turn:
                return await self._one(config_path, partition)

        async with asyncio.TaskGroup() as group:
            tasks = {partition: group.create_task(one(partition)) for partition in self._partitions}
        return {partition: task.result() for partition, task in tasks.items()}

    def stop(self) -> None:
        stop_all(self._processes, STOP_S)

    async def _one(self, config_path: Path, partition: int) -> Truth:
        dump = ("-m", "app.demo.dump", self._setting.bootstrap_servers, TOPIC, str(self.folder), str(partition))
        await self._finish(f"dump-{partition}", dump)
        expected = self.folder / f"expected-{partition}.json"
        records = records_path(self.folder, partition)
        await self._finish(f"oracle-{partition}", (str(ORACLE), str(config_path), str(records)), expected)
        return await asyncio.to_thread(read_truth, expected, partition)

    async def _finish(self, name: str, arguments: tuple[str, ...], output: Path | None = None) -> None:
        log_path = self._setting.logs / f"{name}.log"
        process = Process(name, arguments, log_path, output_path=output, niceness=POLITE)
        process.start()
        self._processes.append(process)
        await finish(process, DEADLINE_S)


def read_truth(path: Path, partition: int) -> Truth:
    """What the oracle wrote of one partition; nothing if it saw no record of it."""
    answer = json.loads(path.read_bytes())[TABLE]
    nothing: dict[str, Any] = {"tallies": {}, "stream_time": None, "cells": {}, "certificates": {}}
    return Truth.of(answer.get(str(partition), nothing))
