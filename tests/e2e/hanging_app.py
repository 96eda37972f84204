"""The app with commits that hang while a file is there: `HANG` is its path, `HANGS` says where they do.

`python -m tests.e2e.hanging_app`. A commit that hangs leaves a file beside it, with the suffix `.held`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiokafka import AIOKafkaProducer

from app import cli
from tests.waiting import wait_until

HANG_MAX_S = 120.0


def hanging(file: Path, where: str) -> None:
    commit = AIOKafkaProducer.commit_transaction

    def there() -> bool:
        if found := file.exists():
            file.with_suffix(".held").touch()
        return found

    async def gone() -> bool:
        return not await asyncio.to_thread(there)

    async def held() -> None:
        await wait_until(f"{file} to be gone", gone, HANG_MAX_S)

    async def slow(producer: AIOKafkaProducer) -> None:
        if where == "request":
            await held()
        await commit(producer)
        if where == "answer":
            await held()

    AIOKafkaProducer.commit_transaction = slow


if __name__ == "__main__":
    hanging(Path(os.environ["HANG"]), os.environ["HANGS"])
    cli.main()
