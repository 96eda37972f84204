"""Letting go of a producer."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection

from tables.changelog import drop_producer

MORE_THAN_BUFFERS_HOLD = 64 << 20


async def test_a_broker_that_takes_nothing_holds_no_drop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a host that died or hangs: what the kernel didn't take yet would wait for it, for a quarter of an hour."""

    async def known(_: AIOKafkaConnection) -> None: ...

    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", known)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = AIOKafkaConnection("127.0.0.1", silent.getsockname()[1])
        await connection.connect()
        connection._writer.write(bytes(MORE_THAN_BUFFERS_HOLD))
        client = AIOKafkaClient()
        client._conns = {("node", "group"): connection}
        producer = SimpleNamespace(_closed=False, _sender=SimpleNamespace(sender_task=None), client=client)
        async with asyncio.timeout(5):
            await drop_producer(producer)
        assert not connection.connected()
