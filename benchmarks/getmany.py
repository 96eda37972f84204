"""The yardstick: plain aiokafka getmany over the whole topic, nothing decoded. Prints records and CPU seconds."""

from __future__ import annotations

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition


async def read(bootstrap: str, topic: str, partitions: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, isolation_level="read_committed")
    await consumer.start()
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(places)
    ends = await consumer.end_offsets(places)
    for place in places:
        consumer.seek(place, 0)
    began, records = time.process_time(), 0
    while records < sum(ends.values()):
        for found in (await consumer.getmany(timeout_ms=1000)).values():
            records += len(found)
    print(records, time.process_time() - began)
    await consumer.stop()


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3])))
