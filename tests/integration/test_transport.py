"""The columnar fetch gives what aiokafka's own committed reader gives, in batches that chain."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Iterable
from random import Random

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, codec
from aiokafka.consumer.fetcher import FetchError
from aiokafka.errors import CorruptRecordException, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from agents.source import Place
from app.transport.consumer import _out_of_range
from domain.errors import RefusedError
from domain.record import Batch
from tables.fetch import drain, fetch
from tests import kafka
from tests.kafka import MakeTopic, Record
from tests.waiting import wait_until

CODECS = [None, "gzip", *(name for name in ("snappy", "lz4", "zstd") if getattr(codec, f"has_{name}")())]
NOW_MS = 1_700_000_000_000
ROUNDS_MAX = 400


async def send_batch(
    producer: AIOKafkaProducer, topic: str, partition: int, values: Iterable[bytes | None], at_ms: int = NOW_MS
) -> None:
    """One Kafka record batch of its own."""
    builder = producer.create_batch()
    for n, value in enumerate(values):
        key = None if n % 3 == 0 else b"" if n % 3 == 1 else b"key-%d" % n
        assert builder.append(timestamp=at_ms + n, key=key, value=value, headers=[("h", b"v"), ("n", None)][: n % 3])
    builder.close()
    await (await producer.send_batch(builder, topic, partition=partition))


def values(count: int, name: str = "v") -> list[bytes | None]:
    return [None if n % 7 == 3 else b"" if n % 7 == 5 else f"{name}-{n}".encode() for n in range(count)]


async def columns(
    consumer: AIOKafkaConsumer, places: Collection[TopicPartition], from_offset: int | None = None
) -> dict[TopicPartition, list[Batch]]:
    """Everything up to the log's end by the columnar fetch; asserts that the batches chain."""
    consumer.assign(places)
    last = await consumer.end_offsets(places)
    expected = await consumer.beginning_offsets(places)
    if from_offset is not None:
        expected = dict.fromkeys(places, from_offset)
    found: dict[TopicPartition, list[Batch]] = {place: [] for place in places}
    for place in places:
        consumer.seek(place, expected[place])
    for _ in range(ROUNDS_MAX):
        if all(expected[place] >= last[place] for place in places):
            break
        for batch in await fetch(consumer, places, 0.5):
            place = TopicPartition(batch.topic, batch.partition)
            assert batch.start == expected[place], "a batch starts where the one before ended"
            assert batch.end > batch.start
            assert all(batch.start <= offset < batch.end for offset in batch.offsets.tolist())
            assert len(batch.offsets) == len(batch.timestamps) == len(batch.keys) == len(batch.values)
            expected[place] = batch.end
            found[place].append(batch)
    assert expected == last, "the chain ends at the log's end"
    return found


def records_of(batches: Iterable[Batch]) -> list[Record]:
    return [
        Record(*fields)
        for batch in batches
        for fields in zip(batch.offsets.tolist(), batch.timestamps.tolist(), batch.keys, batch.values, strict=True)
    ]


async def rows(bootstrap: str, topic: str, **options: int) -> list[Record]:
    """Both readings of partition 0, which must be equal."""
    place = TopicPartition(topic, 0)
    async with kafka.reader(bootstrap, **options) as consumer:
        ours = records_of((await columns(consumer, [place]))[place])
    assert ours == (await kafka.read_topic(bootstrap, topic))[0]
    return ours


@pytest.fixture
async def sender(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    async with kafka.producer(kafka_bootstrap, max_batch_size=1 << 20) as producer:
        yield producer


@pytest.mark.parametrize("compression", CODECS)
async def test_records_of_any_codec(kafka_bootstrap: str, make_topic: MakeTopic, compression: str | None) -> None:
    topic = make_topic()
    async with kafka.producer(kafka_bootstrap, compression_type=compression, max_batch_size=1 << 20) as producer:
        for n in range(20):
            await send_batch(producer, topic, 0, values(50, f"batch-{n}"), NOW_MS + n * 1000)
    found = await rows(kafka_bootstrap, topic)
    assert [one.offset for one in found] == list(range(1000))
    assert {one.key for one in found} >= {None, b"", b"key-2"}
    assert {one.value for one in found} >= {None, b"", b"batch-19-49"}
    assert [one.timestamp for one in found] == [NOW_MS + n * 1000 + i for n in range(20) for i in range(50)]


async def test_small_fetches_and_several_partitions(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic(4)
    for n in range(30):
        await send_batch(sender, topic, n % 4, values(20 + n, f"batch-{n}"))
    places = [TopicPartition(topic, partition) for partition in range(4)]
    async with kafka.reader(kafka_bootstrap, max_partition_fetch_bytes=500) as consumer:
        found = await columns(consumer, places)
    theirs = await kafka.read_topic(kafka_bootstrap, topic)
    assert {place.partition: records_of(batches) for place, batches in found.items()} == theirs
    assert min(len(batches) for batches in found.values()) > 1, "the log came in several fetches"


@pytest.mark.parametrize("compression", [None, "gzip"])
async def test_a_seek_into_the_middle_of_a_batch(
    kafka_bootstrap: str, make_topic: MakeTopic, compression: str | None
) -> None:
    topic = make_topic()
    async with kafka.producer(kafka_bootstrap, compression_type=compression) as producer:
        for n in range(3):
            await send_batch(producer, topic, 0, values(10, f"batch-{n}"))
    place = TopicPartition(topic, 0)
    everything = (await kafka.read_topic(kafka_bootstrap, topic))[0]
    async with kafka.reader(kafka_bootstrap) as consumer:
        for offset in (0, 1, 9, 10, 15, 29):
            assert records_of((await columns(consumer, [place], offset))[place]) == everything[offset:]


async def test_large_values_pass_whatever_the_fetch_size(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic()
    async with kafka.producer(kafka_bootstrap, max_request_size=8 << 20, max_batch_size=8 << 20) as producer:
        await send_batch(producer, topic, 0, [b"a", b"x" * (5 << 20), b"b"])
    found = await rows(kafka_bootstrap, topic, max_partition_fetch_bytes=1 << 16)
    assert [len(one.value or b"") for one in found] == [1, 5 << 20, 1]


async def test_log_append_time(kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer) -> None:
    topic = make_topic(message_timestamp_type="LogAppendTime")
    for n in range(3):
        await send_batch(sender, topic, 0, values(10, f"batch-{n}"), at_ms=5)
    found = await rows(kafka_bootstrap, topic)
    assert min(one.timestamp for one in found) > NOW_MS, "the broker's clock, not the producer's"


async def test_commits_aborts_and_interleaved_transactions(kafka_bootstrap: str, make_topic: MakeTopic) -> None:
    """Random transactions of three producers beside plain batches; aborted records never show."""
    topic = make_topic(2)
    r = Random(7)
    committed: set[bytes] = set()
    async with (
        kafka.producer(kafka_bootstrap, transactional_id=kafka.unique("a")) as a,
        kafka.producer(kafka_bootstrap, transactional_id=kafka.unique("b"), compression_type="gzip") as b,
        kafka.producer(kafka_bootstrap, transactional_id=kafka.unique("c")) as c,
        kafka.producer(kafka_bootstrap) as plain,
    ):
        written: dict[AIOKafkaProducer, set[bytes]] = {}
        for n in range(80):
            chosen = r.choice((a, b, c, plain))
            batch = [f"{n}-{i}".encode() for i in range(r.randint(1, 30))]
            if chosen is plain:
                await send_batch(plain, topic, r.randint(0, 1), batch)
                committed.update(batch)
            elif chosen in written and r.randint(0, 2) == 0:
                if r.randint(0, 1):
                    await chosen.commit_transaction()
                    committed |= written.pop(chosen)
                else:
                    await chosen.abort_transaction()
                    del written[chosen]
            else:
                if chosen not in written:
                    await chosen.begin_transaction()
                    written[chosen] = set()
                await send_batch(chosen, topic, r.randint(0, 1), batch)
                written[chosen].update(batch)
        # Somebody's transaction stays open: reading ends before it.
        if a not in written:
            await a.begin_transaction()
            written[a] = set()
        await send_batch(a, topic, 0, [b"open"])
        await send_batch(plain, topic, 0, [b"behind the open one"])
        await same(kafka_bootstrap, topic)
        for one in written:
            await one.abort_transaction()
        committed.add(b"behind the open one")
        # The end moves once the abort markers are written everywhere.
        place = TopicPartition(topic, 0)

        async def readable() -> bool:
            found = await same(kafka_bootstrap, topic)
            return any(one.value == b"behind the open one" for one in found[place])

        await wait_until("the aborts to free the records behind them", readable)
    found = await same(kafka_bootstrap, topic)
    values = [one.value for one in itertools.chain(*found.values())]
    assert set(values) == committed
    assert len(values) == len(committed)


async def same(bootstrap: str, topic: str) -> dict[TopicPartition, list[Record]]:
    """Both readings of both partitions, with large and small fetches."""
    places = [TopicPartition(topic, partition) for partition in range(2)]
    theirs = await kafka.read_topic(bootstrap, topic)
    for size in (300, 1 << 20):
        async with kafka.reader(bootstrap, max_partition_fetch_bytes=size) as consumer:
            ours = {place: records_of(batches) for place, batches in (await columns(consumer, places)).items()}
        assert {place.partition: records for place, records in ours.items()} == theirs
    return ours


async def test_a_range_of_control_records_alone_moves_the_position(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic()
    place = TopicPartition(topic, 0)
    await send_batch(sender, topic, 0, [b"first"])
    async with kafka.producer(kafka_bootstrap, transactional_id=kafka.unique("a")) as producer:
        for n in range(3):
            await producer.begin_transaction()
            await send_batch(producer, topic, 0, [b"aborted %d" % n])
            await producer.abort_transaction()
    async with kafka.reader(kafka_bootstrap) as consumer:

        async def whole() -> bool:
            return bool((await consumer.end_offsets([place]))[place] == 7)

        await wait_until("three aborted records and their markers", whole)
        (batches,) = (await columns(consumer, [place], 1)).values()
        assert batches[-1].end == 7
        assert sum(map(len, batches)) == 0


async def test_holes_made_by_compaction(kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer) -> None:
    topic = make_topic(
        cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001", delete_retention_ms="0"
    )
    place = TopicPartition(topic, 0)
    sent = 0

    async def compacted() -> list[Record]:
        # The cleaner leaves the newest segment alone: a new one starts with each of these.
        nonlocal sent
        builder = sender.create_batch()
        for n in range(40):
            builder.append(timestamp=None, key=b"%d" % (n % (3 + sent % 5)), value=b"%d" % sent)
            sent += 1
        builder.close()
        await (await sender.send_batch(builder, topic, partition=0))
        before = (await kafka.read_topic(kafka_bootstrap, topic))[0]
        async with kafka.reader(kafka_bootstrap, max_partition_fetch_bytes=400) as consumer:
            ours = records_of((await columns(consumer, [place]))[place])
        if before != (await kafka.read_topic(kafka_bootstrap, topic))[0]:
            return []  # cleaned meanwhile
        assert ours == before
        return ours if len(ours) < 0.6 * sent and sent > 400 else []

    found = await wait_until("the cleaner to remove records", compacted, 60)
    offsets = [one.offset for one in found]
    assert offsets == sorted(set(offsets))
    async with kafka.reader(kafka_bootstrap) as consumer:
        for first in range(0, 60, 7):  # most of these offsets are holes by now, more may become ones
            ours = records_of((await columns(consumer, [place], first))[place])
            assert set(ours) <= {one for one in found if one.offset >= first}
            assert ours[-1] == found[-1]


async def test_records_of_a_partition_not_asked_for_wait(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic(2)
    places = [TopicPartition(topic, partition) for partition in range(2)]
    for place in places:
        await send_batch(sender, topic, place.partition, values(10))
    async with kafka.reader(kafka_bootstrap) as consumer:
        consumer.assign(places)
        for place in places:
            consumer.seek(place, 0)
        for wanted in places:

            async def arrived(wanted: TopicPartition = wanted) -> list[Batch]:
                return await fetch(consumer, [wanted], 0.5)

            (batch,) = await wait_until(f"the records of {wanted}", arrived)
            assert (batch.partition, batch.start, batch.end) == (wanted.partition, 0, 10)


async def test_a_seek_throws_away_what_was_fetched_before(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic()
    place = TopicPartition(topic, 0)
    for n in range(4):
        await send_batch(sender, topic, 0, values(10, f"batch-{n}"))
    async with kafka.reader(kafka_bootstrap, max_partition_fetch_bytes=100) as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)

        async def fetched() -> bool:
            return place in consumer._fetcher._records

        await wait_until("a prefetched batch", fetched)
        consumer.seek(place, 25)
        (batch, *_) = await wait_until("records", lambda: fetch(consumer, [place], 0.5))
        assert batch.start == 25


async def test_records_deleted_before_they_were_read_are_refused_with_the_way_on(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer
) -> None:
    topic = make_topic()
    place = TopicPartition(topic, 0)
    await send_batch(sender, topic, 0, values(30))
    await kafka.delete_records(kafka_bootstrap, topic, {0: 20})
    error = await out_of_range(kafka_bootstrap, place, 5)
    assert isinstance(error, RefusedError)
    assert "records 5 to 19 were deleted from the topic before they were counted" in error.why
    assert f"recount worker --accept-gap {topic}-0:5-19" in error.fix
    error = await out_of_range(kafka_bootstrap, place, 5, folded=3)
    assert "records 3 to 19" in str(error), "what was fetched and isn't folded is gone with this process"
    error = await out_of_range(kafka_bootstrap, place, 31)
    assert isinstance(error, RefusedError)
    assert f"topic {topic} was re-created or truncated" in error.what
    assert "no longer reaches offset 31" in error.why


async def out_of_range(bootstrap: str, place: TopicPartition, offset: int, folded: int | None = None) -> Exception:
    """The error for reading where the log has nothing."""
    from aiokafka.errors import OffsetOutOfRangeError

    async with kafka.reader(bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, offset)

        async def refused() -> OffsetOutOfRangeError | None:
            try:
                assert not await fetch(consumer, [place], 0.5), "there is nothing to read"
            except OffsetOutOfRangeError as err:
                return err
            return None

        error = await wait_until("the broker to refuse the position", refused)
        return await _out_of_range(consumer, error, {} if folded is None else {Place(*place): folded})


def met(consumer: AIOKafkaConsumer, place: TopicPartition, error: Exception) -> list[Batch]:
    """What `drain` makes of an error the fetcher met a while ago. Nothing else runs in between."""
    consumer._fetcher._records[place] = FetchError(error=error, backoff=0)
    try:
        return drain(consumer, [place])
    finally:
        assert place not in consumer._fetcher._records, "an error that is kept would keep the partition from fetching"


@pytest.mark.parametrize("error", [NoOffsetForPartitionError, OffsetOutOfRangeError])
async def test_an_error_met_before_our_seek_says_nothing(
    kafka_bootstrap: str, make_topic: MakeTopic, sender: AIOKafkaProducer, error: type[KafkaError]
) -> None:
    place = TopicPartition(make_topic(), 0)
    await send_batch(sender, place.topic, 0, values(10))
    async with kafka.reader(kafka_bootstrap) as consumer:
        consumer.assign([place])
        consumer.seek(place, 4)
        assert met(consumer, place, error({place: 90})) == []
        (batch, *_) = await wait_until("the records", lambda: fetch(consumer, [place], 0.5))
        assert batch.start == 4
        # Neither does one of the position that we read from before that batch.
        assert met(consumer, place, error({place: 4})) == []


async def test_an_error_met_before_there_is_a_position_says_nothing(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    place = TopicPartition(make_topic(), 0)
    async with kafka.reader(kafka_bootstrap) as consumer:
        consumer.assign([place])
        await consumer.end_offsets([place])  # its tasks must run once, or it can't be stopped
        assert met(consumer, place, NoOffsetForPartitionError(place)) == []
        assert met(consumer, place, OffsetOutOfRangeError({place: 4})) == []


@pytest.mark.parametrize("error", [OffsetOutOfRangeError, CorruptRecordException])
async def test_an_error_met_where_we_read_is_raised(
    kafka_bootstrap: str, make_topic: MakeTopic, error: type[KafkaError]
) -> None:
    place = TopicPartition(make_topic(), 0)
    async with kafka.reader(kafka_bootstrap) as consumer:
        consumer.assign([place])
        await consumer.end_offsets([place])
        consumer.seek(place, 4)
        found = error({place: 4})
        with pytest.raises(error) as raised:
            met(consumer, place, found)
        assert raised.value is found
