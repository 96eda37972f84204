"""Fetched records as columns: what aiokafka's fetcher holds, unpacked without a ConsumerRecord per record.

Verified against aiokafka 0.14.0: the same records, positions and transaction visibility as its own iterator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult
from aiokafka.errors import (
    ConsumerStoppedError,
    CorruptRecordException,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from domain.record import Batch, Int64s


class _Columns:
    def __init__(self) -> None:
        self.offsets: list[Int64s] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []

    def add(self, batch: Any, position: int) -> None:
        """The records of one Kafka record batch at or after `position`."""
        # One record at a time, none kept: a list of them is work for the garbage collector (twice the cost here).
        offsets: list[int] = []
        add_offset = offsets.append
        add_timestamp, add_key, add_value = self.timestamps.append, self.keys.append, self.values.append
        for record in batch:
            offset = record.offset
            if offset < position:
                continue  # the fetch began inside this batch
            add_offset(offset)
            add_timestamp(record.timestamp)
            add_key(record.key)
            add_value(record.value)
        if offsets:
            self.offsets.append(_array(offsets))


def _array(offsets: list[int]) -> Int64s:
    first, last = offsets[0], offsets[-1]
    if last - first + 1 == len(offsets):
        return np.arange(first, last + 1, dtype=np.int64)
    return np.array(offsets, np.int64)  # compacted


def unpack(place: TopicPartition, fetched: Any) -> Batch:
    """Everything left in one fetch result's PartitionRecords. Raises CorruptRecordException on a bad CRC."""
    start: int = fetched.next_fetch_offset
    raw = fetched._records
    size = raw.size_in_bytes()
    columns = _Columns()
    compressed = False
    while raw.has_next():
        batch = raw.next_batch()
        compressed |= bool(batch.compression_type)
        if fetched._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {place}")
        if _visible(fetched, batch):
            columns.add(batch, fetched.next_fetch_offset)
        # Also past control records and what compaction removed: the next fetch starts at the next batch.
        fetched.next_fetch_offset = batch.next_offset
    if compressed:  # what backlogs hold is what it unpacks to
        size = sum(map(len, filter(None, columns.values))) + sum(map(len, filter(None, columns.keys)))
    offsets = np.concatenate(columns.offsets) if columns.offsets else np.empty(0, np.int64)
    return Batch(
        topic=place.topic,
        partition=place.partition,
        start=start,
        end=fetched.next_fetch_offset,
        offsets=offsets,
        timestamps=np.array(columns.timestamps, np.int64),
        keys=columns.keys,
        values=columns.values,
        size=size,
    )


def _visible(fetched: Any, batch: Any) -> bool:
    """Whether a record batch is data of a committed (or no) transaction."""
    if fetched._isolation_level == READ_COMMITTED and batch.producer_id is not None:
        fetched._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and fetched._contains_abort_marker(batch):
            fetched._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in fetched._aborted_producers:
            return False
    return not batch.is_control_batch


def drain(consumer: AIOKafkaConsumer, wanted: Collection[Any]) -> list[Batch]:
    """What the fetcher holds for the wanted partitions, moving their positions. Raises the errors it met."""
    fetcher = consumer._fetcher
    batches: list[Batch] = []
    for place in list(fetcher._records):
        if place not in wanted:
            if not fetcher._subscriptions.is_assigned(place):
                del fetcher._records[place]
            continue
        result = fetcher._records[place]
        if type(result) is not FetchResult:
            if batches:
                break  # the error comes with the next call
            del fetcher._records[place]
            fetcher._notify(fetcher._wait_consume_future)
            if not _met_before_our_seek(consumer, place, result._error):
                result.check_raise()
            continue
        if result.check_assignment(place) and result._partition_records is not None:
            batch = unpack(place, result._partition_records)
            result._update_position()
            if batch.end > batch.start:
                batches.append(batch)
        del fetcher._records[place]
        fetcher._notify(fetcher._wait_consume_future)
    return batches


def _met_before_our_seek(consumer: AIOKafkaConsumer, place: Any, error: Exception) -> bool:
    """Whether an error is of the time between the assignment and our seek, and says nothing any more."""
    if isinstance(error, NoOffsetForPartitionError):
        return True
    if isinstance(error, OffsetOutOfRangeError):
        state = consumer._subscription.subscription.assignment.state_value(place)
        return state is None or error.args[0].get(place) != state._position
    return False


async def fetch(consumer: AIOKafkaConsumer, wanted: Iterable[Any], timeout_s: float) -> list[Batch]:
    """Batches of the wanted partitions, waiting for the first; empty after the timeout."""
    fetcher = consumer._fetcher
    places = frozenset(wanted)
    if consumer._closed or fetcher._closed:
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()  # of the group: it waits until somebody looks
    with fetcher._subscriptions.fetch_context():
        # Prefetched records may not be ours any more until the assignment is through.
        if fetcher._subscriptions.reassignment_in_progress:
            await fetcher._subscriptions.wait_for_assignment()
        if batches := drain(consumer, places):
            return batches
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=timeout_s)
        if not done or fetcher._closed:
            waiter.cancel()
            return []
        waiter.result()  # authorization errors
        return drain(consumer, places)
