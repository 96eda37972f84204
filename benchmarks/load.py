"""Preloads one topic for every contender of a run: ~115-byte page views, 10 k keys, four partitions."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS = 4
KEYS = 10_000
CHUNK = 4_000
IN_FLIGHT = 64


def events(count: int, seed: int = 7) -> list[bytes]:
    """Events a millisecond apart with up to 60 s of disorder, ending now; keys as skewed as page views are."""
    random = np.random.default_rng(seed)
    now_ms = int(time.time() * 1000)
    times = now_ms - count + np.arange(count) - random.integers(0, 60_000, count)
    pages = np.minimum(random.zipf(1.2, count), KEYS)
    users = random.integers(0, 200_000, count)
    ids = random.integers(0, 2**62, count)
    return [
        b'{"id":"%016x","user":"u%d","page":"/articles/%d","ts":%d,"bot":false,"os":"android"}' % row
        for row in zip(ids.tolist(), users.tolist(), pages.tolist(), times.tolist(), strict=True)
    ]


async def preload(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Create the topic and send the values, dealt to its partitions in chunks."""
    firsts = enumerate(range(0, len(values), CHUNK))
    await send(bootstrap, topic, ((number % PARTITIONS, values[at : at + CHUNK]) for number, at in firsts))


async def send(bootstrap: str, topic: str, chunks: Iterable[tuple[int, list[bytes]]]) -> int:
    """Create the topic and send each chunk to its partition; returns the number of values."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=1 << 19, acks="all", linger_ms=0)
    await producer.start()
    sent: deque[Any] = deque()
    values = 0
    now_ms = int(time.time() * 1000)
    for partition, chunk in chunks:
        batch = producer.create_batch()
        for value in chunk:
            assert batch.append(key=None, value=value, timestamp=now_ms) is not None, "a chunk fits a batch"
        batch.close()
        sent.append(await producer.send_batch(batch, topic, partition=partition))
        values += len(chunk)
        while len(sent) > IN_FLIGHT:
            await sent.popleft()
    await asyncio.gather(*sent)
    await producer.stop()
    return values
