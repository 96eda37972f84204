"""One process that restores every partition from its changelog, as a worker does that owns nothing yet.

Prints rows, CPU seconds and seconds of the restore, then CPU seconds once RocksDB has also settled.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from tables.changelog import ChangelogReader, ChangelogSettings
from tables.restore import restore
from tables.rocksdb import RocksSettings, RocksStore

SETTLE_S = 60.0


async def run(bootstrap: str, app: str, topic: str, partitions: int, folder: Path) -> None:
    settings, rocks = ChangelogSettings(bootstrap), RocksSettings()
    stores = [RocksStore(folder / str(partition), rocks) for partition in range(partitions)]

    async def one(partition: int) -> int:
        async with ChangelogReader(settings, app, topic, partition) as reader:
            return (await restore(stores[partition], reader, lambda _: None)).rows

    cpu, began = time.process_time(), time.perf_counter()
    rows = sum(await asyncio.gather(*(one(partition) for partition in range(partitions))))
    print(rows, time.process_time() - cpu, time.perf_counter() - began)
    _settle(stores)
    print(time.process_time() - cpu)
    for store in stores:
        store.close()


def _settle(stores: list[RocksStore]) -> None:
    deadline = time.perf_counter() + SETTLE_S
    while time.perf_counter() < deadline and any(map(_busy, stores)):
        time.sleep(0.05)


def _busy(store: RocksStore) -> bool:
    counters = ("num-running-flushes", "num-running-compactions", "compaction-pending", "mem-table-flush-pending")
    return any(store._db.property_int_value(f"rocksdb.{name}") for name in counters)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])))
