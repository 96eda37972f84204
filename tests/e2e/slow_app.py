"""The app with a restore of partition 0 that lasts while the file HELD is there: `python -m tests.e2e.slow_app`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from agents.opening import Opening
from agents.source import Place
from app import cli
from tables.restore import Restored
from tables.rocksdb import RocksStore

log = structlog.get_logger(__name__)
POLL_S = 0.1


def slow(held: Path) -> None:
    restore = Opening._restore

    async def held_back(opening: Opening, place: Place, store: RocksStore) -> Restored:
        restored = await restore(opening, place, store)
        while place.partition == 0 and held.exists():  # noqa: ASYNC240 - a local file
            log.info("held back", partition=str(place))
            await asyncio.sleep(POLL_S)
        return restored

    Opening._restore = held_back  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    slow(Path(os.environ["HELD"]))
    cli.main()
