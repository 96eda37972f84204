"""The wait for a partition that may be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from faust.types import TP

from app.transport.consumer import BatchConsumer
from app.transport.service import RecountApp, ServiceSettings

PLACE = TP("clicks", 0)
LONG_S = 60.0


async def nothing() -> None: ...


@pytest.fixture
async def consumer() -> AsyncIterator[BatchConsumer]:
    settings = ServiceSettings("clicks", "127.0.0.1:1", Path("nowhere"), "http://127.0.0.1:1", 10.0, "one")
    app = RecountApp(settings, [PLACE.topic], dict, lambda _: None, nothing, lambda _: None)
    made: BatchConsumer = app.transport.create_consumer(
        callback=lambda _: None, on_partitions_revoked=None, on_partitions_assigned=None
    )
    made._set_active_tps({PLACE})
    yield made
    made._thread.thread_loop.close()


def hold(consumer: BatchConsumer) -> Callable[[], None]:
    consumer.pause_partitions({PLACE})
    return lambda: consumer.resume_partitions({PLACE})


def fill_its_queue(consumer: BatchConsumer) -> Callable[[], None]:
    consumer.on_buffer_full(PLACE)
    return lambda: consumer.on_buffer_drop(PLACE)


@pytest.mark.parametrize("stop_reading", [hold, fill_its_queue])
async def test_the_only_partition_is_read_as_soon_as_it_may_be(
    consumer: BatchConsumer, stop_reading: Callable[[BatchConsumer], Callable[[], None]]
) -> None:
    read_on = stop_reading(consumer)

    async def read() -> list[object]:
        return [one async for one in consumer.getmany(LONG_S)]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    assert not reading.done()
    read_on()
    async with asyncio.timeout(5):
        assert await reading == []
    assert consumer._get_active_partitions() == {PLACE}


async def test_a_paused_partition_stays_so_when_its_queue_is_short_again(consumer: BatchConsumer) -> None:
    consumer.on_buffer_full(PLACE)
    hold(consumer)
    consumer.on_buffer_drop(PLACE)
    assert consumer._get_active_partitions() == set()
