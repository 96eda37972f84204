"""The changelog on a real broker: a transaction is all or nothing, and the last to fence is the only writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.protocol.transaction import EndTxnRequest

from domain.errors import FencedError, TaintedError
from domain.rows import Row
from domain.spec import changelog_topic
from lab import Lab
from tables.changelog import BATCH_BYTES, ChangelogReader, ChangelogSettings, ChangelogWriter
from tests import kafka
from tests.kafka import MakeTopic, unique

TOPIC = "clicks"
LIMIT = BATCH_BYTES + (64 << 10)
SHORT_MS = 2500


def some_rows(name: str, count: int, size: int = 20) -> list[Row]:
    """Rows of `size` bytes; each tenth a tombstone."""
    return [(f"{name}-{n}".encode(), None if n % 10 == 9 else b"%0*d" % (size, n)) for n in range(count)]


@dataclass
class Log:
    """One changelog partition and who writes it."""

    settings: ChangelogSettings
    app: str
    stack: AsyncExitStack

    async def writer(self, request_timeout_ms: int | None = None) -> ChangelogWriter:
        """A new owner: fenced, closed with the test."""
        settings = self.settings
        if request_timeout_ms is not None:
            settings = ChangelogSettings(settings.bootstrap_servers, request_timeout_ms)
        writer = ChangelogWriter(settings, self.app, TOPIC, 0)
        self.stack.push_async_callback(writer.close)
        await writer.fence()
        return writer

    async def stranger(self, settled: bool = True) -> list[Row]:
        """What a committed reader that knows nothing of us sees."""
        topic = changelog_topic(self.app, TOPIC)
        found = await kafka.read_topic(self.settings.bootstrap_servers, topic, settled=settled)
        assert all(one.key is not None for one in found[0])
        return [(one.key or b"", one.value) for one in found[0]]

    async def read(self) -> list[tuple[int, bytes, bytes | None]]:
        async with ChangelogReader(self.settings, self.app, TOPIC, 0) as reader:
            bounds = await reader.bounds()
            return [
                row
                async for chunk in reader.rows(bounds.begin, bounds.end)
                for row in zip(chunk.offsets.tolist(), chunk.keys, chunk.values, strict=True)
            ]


@pytest.fixture
async def log(kafka_bootstrap: str, make_topic: MakeTopic) -> AsyncIterator[Log]:
    app = unique("app")
    make_topic(
        name=changelog_topic(app, TOPIC),
        cleanup_policy="compact",
        message_timestamp_type="LogAppendTime",
        max_message_bytes=str(LIMIT),
    )
    async with AsyncExitStack() as stack:
        yield Log(ChangelogSettings(kafka_bootstrap), app, stack)


async def test_transactions_come_back_in_order_and_the_last_offset_is_told(log: Log) -> None:
    writer = await log.writer()
    transactions = [some_rows("a", 3), some_rows("b", 1), some_rows("c", 20_000, 60)]  # the last: several batches
    lasts = [await writer.commit(rows) for rows in transactions]
    wanted = [row for rows in transactions for row in rows]
    assert await log.stranger() == wanted
    found = await log.read()
    assert [(key, value) for _, key, value in found] == wanted
    by_offset = {offset: key for offset, key, _ in found}
    assert [by_offset[last] for last in lasts] == [rows[-1][0] for rows in transactions]


async def test_a_writer_that_dies_before_its_commit_leaves_nothing_to_see(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await log.writer()
    await writer.commit(some_rows("kept", 3))
    sent = asyncio.Event()

    async def never() -> None:
        sent.set()
        await asyncio.Event().wait()

    assert writer._producer is not None
    monkeypatch.setattr(writer._producer, "commit_transaction", never)
    dying = asyncio.create_task(writer.commit(some_rows("lost", 5000, 300)))
    async with asyncio.timeout(20):
        await sent.wait()
    dying.cancel()
    await asyncio.wait([dying])
    began = time.monotonic()
    await writer.close()
    assert time.monotonic() - began < 1, "dropping waits for nobody"
    assert await log.stranger(settled=False) == some_rows("kept", 3)
    # The next owner needn't wait for the transaction to time out.
    following = await log.writer()
    assert time.monotonic() - began < 8
    await following.commit(some_rows("next", 2))
    assert await log.stranger() == some_rows("kept", 3) + some_rows("next", 2)


async def test_whoever_fences_last_is_the_only_writer(log: Log) -> None:
    first = await log.writer()
    await first.commit(some_rows("first", 2))
    second = await log.writer()
    with pytest.raises(FencedError):
        await first.commit(some_rows("zombie", 2))
    with pytest.raises(TaintedError):
        await first.commit(some_rows("zombie", 2))
    await second.commit(some_rows("second", 2))
    assert await log.stranger() == some_rows("first", 2) + some_rows("second", 2)


async def test_a_fence_aborts_the_transaction_under_way(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await log.writer()
    assert first._producer is not None
    commit = first._producer.commit_transaction
    second: list[ChangelogWriter] = []

    async def fenced_meanwhile() -> None:
        second.append(await log.writer())
        await commit()

    monkeypatch.setattr(first._producer, "commit_transaction", fenced_meanwhile)
    with pytest.raises(FencedError):
        await first.commit(some_rows("zombie", 2))
    await second[0].commit(some_rows("second", 2))
    assert await log.stranger() == some_rows("second", 2)


def large(place: str) -> Callable[[int], list[Row]]:
    """Rows of several batches, one of which the topic refuses; `place` says which."""

    def make(size: int) -> list[Row]:
        refused: Row = (b"large", b"x" * size)
        before, after = some_rows("before", 8000, 100), some_rows("after", 8000, 100)
        return {"first": [refused, *after], "middle": [*before, refused, *after], "last": [*before, refused]}[place]

    return make


@pytest.mark.parametrize("place", ["first", "middle", "last"])
async def test_rows_beside_a_refused_batch_are_never_committed(log: Log, place: str) -> None:
    writer = await log.writer()
    await writer.commit(some_rows("kept", 3))
    with pytest.raises(TaintedError, match=r"too large: nothing is committed until its max\.message\.bytes is raised"):
        await writer.commit(large(place)(LIMIT + 1000))
    with pytest.raises(TaintedError):
        await writer.commit(some_rows("later", 1))
    await writer.close()
    following = await log.writer()
    await following.commit(some_rows("next", 1))
    assert await log.stranger() == some_rows("kept", 3) + some_rows("next", 1)


async def test_rows_beside_finals_that_are_refused_are_never_committed(log: Log, make_topic: MakeTopic) -> None:
    finals = make_topic(max_message_bytes="1000")
    writer = await log.writer()
    with pytest.raises(TaintedError):
        await writer.commit(some_rows("views", 3), {finals: [(b"a", b"x" * 2000)]})
    await writer.close()
    following = await log.writer()
    await following.commit(some_rows("next", 1), {finals: [(b"a", b"1")]})
    assert await log.stranger() == some_rows("next", 1)
    sent = await kafka.read_topic(log.settings.bootstrap_servers, finals, settled=True)
    assert [one.value for one in sent[0]] == [b"1"]


async def test_a_row_no_request_holds_is_never_committed_in_part(log: Log) -> None:
    writer = await log.writer()
    with pytest.raises(TaintedError):
        await writer.commit([*some_rows("before", 10), (b"large", b"x" * (5 * BATCH_BYTES)), *some_rows("after", 10)])
    await writer.close()
    await (await log.writer()).commit(some_rows("next", 1))
    assert await log.stranger() == some_rows("next", 1)


async def test_an_end_whose_connection_broke_is_an_unknown_outcome(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for again, an end that comes late could commit part of the next checkpoint."""
    writer = await log.writer()
    await writer.commit(some_rows("kept", 3))
    send, ends = AIOKafkaConnection.send, 0

    def send_and_break(connection: AIOKafkaConnection, request: object, **options: object) -> object:
        nonlocal ends
        answer = send(connection, request, **options)
        if isinstance(request, EndTxnRequest):
            ends += 1
            if ends == 1:
                connection.close(reason=CloseReason.CONNECTION_BROKEN)
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(AIOKafkaConnection, "send", send_and_break)
        with pytest.raises(TaintedError):
            await writer.commit(some_rows("unknown", 3))
        with pytest.raises(TaintedError):
            await writer.commit(some_rows("later", 3))
        await writer.close()
        assert ends == 1
    await (await log.writer()).commit(some_rows("next", 1))
    found = await log.stranger()
    whole = some_rows("kept", 3) + some_rows("next", 1)
    assert found in (whole, whole[:3] + some_rows("unknown", 3) + whole[3:]), "all of it or nothing"


async def test_a_silent_broker_taints_by_the_deadline_and_the_next_owner_goes_on(log: Log, lab: Lab) -> None:
    writer = await log.writer(SHORT_MS)
    await writer.commit(some_rows("kept", 3))
    (broker,) = lab.kafka().brokers
    broker.pause()
    try:
        began = time.monotonic()
        with pytest.raises(TaintedError):
            await writer.commit(some_rows("unknown", 3))
        assert time.monotonic() - began < SHORT_MS / 1000 + 2
        closing = time.monotonic()
        await writer.close()
        assert time.monotonic() - closing < 1, "dropping waits for nobody"
        late = ChangelogWriter(ChangelogSettings(log.settings.bootstrap_servers, SHORT_MS), log.app, TOPIC, 0)
        with pytest.raises(TaintedError):
            await late.fence()
        await late.close()
    finally:
        broker.resume()
    broker.wait_ready()
    await (await log.writer()).commit(some_rows("next", 1))
    found = await log.stranger()
    whole = some_rows("kept", 3) + some_rows("next", 1)
    assert found in (whole, whole[:3] + some_rows("unknown", 3) + whole[3:]), "all of it or nothing"
