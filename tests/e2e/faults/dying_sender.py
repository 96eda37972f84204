"""Sends records in a transaction, and dies with it open: `python -m … bootstrap topic partition records`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from tests import kafka

TIMEOUT_MS = 30_000


async def send(bootstrap: str, topic: str, partition: int, records: int) -> None:
    identity = kafka.unique("dying")
    async with kafka.producer(bootstrap, transactional_id=identity, transaction_timeout_ms=TIMEOUT_MS) as producer:
        await producer.begin_transaction()
        for number in range(records):
            await producer.send_and_wait(topic, b'{"never": %d}' % number, partition=partition)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
