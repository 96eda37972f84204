"""Records as rows in a real HBase."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import happybase
import numpy as np
import pytest

from domain.errors import SinkUnavailableError
from domain.record import Batch, TimedBatch
from sinks.hbase import events as events_module
from sinks.hbase.connection import Pool
from sinks.hbase.events import CELL_BYTES_MAX, HBaseEvents
from tests.kafka import unique


class Events:
    def __init__(self, address: str) -> None:
        self.topic = unique("clicks.x")
        self.pool = Pool(address)
        host, _, port = address.rpartition(":")
        self._stranger = happybase.Connection(host, int(port))

    def sink(self, start: int = 0, partition: int = 3) -> HBaseEvents:
        return HBaseEvents(self.pool, self.topic, partition, start)

    def batch(
        self, start: int, values: list[bytes | None], keys: list[bytes | None] | None = None, end: int | None = None
    ) -> TimedBatch:
        offsets = np.arange(start, start + len(values), dtype=np.int64)
        end = start + len(values) if end is None else end
        columns = Batch(self.topic, 3, start, end, offsets, offsets * 10, keys or [None] * len(values), values)
        return TimedBatch(columns, offsets, np.ones(len(values), np.bool_))

    def rows(self) -> dict[bytes, dict[bytes, bytes]]:
        return dict(self._stranger.table(f"recount_{self.topic}_events").scan())

    def id(self, offset: int) -> bytes:
        return f"{self.topic}-3-{offset}".encode()


@pytest.fixture
def events(hbase_thrift: str) -> Iterator[Events]:
    made = Events(hbase_thrift)
    yield made
    made.pool.close()


def ms(value: int) -> bytes:
    return value.to_bytes(8, "big")


def test_each_record_is_a_row_under_its_id(events: Events) -> None:
    sink = events.sink()
    sink.write(events.batch(0, [b"one", None, b""], [b"k", b"", None]))
    assert sink.sync(None) == 3
    assert events.rows() == {
        events.id(0): {b"c:t": ms(0), b"c:k": b"k", b"c:v": b"one"},
        events.id(1): {b"c:t": ms(10), b"c:k": b""},
        events.id(2): {b"c:t": ms(20), b"c:v": b""},
    }


def test_the_same_records_again_are_the_same_rows(events: Events) -> None:
    for _ in range(2):
        sink = events.sink()
        for start in (0, 2):
            sink.write(events.batch(start, [b"%d" % start, b"x"]))
        assert sink.close() == 4
    assert len(events.rows()) == 4


def test_nothing_is_durable_before_a_sync_and_control_records_move_it(events: Events) -> None:
    sink = events.sink(5)
    sink.write(events.batch(5, [b"a"], end=9))
    with pytest.raises(ValueError, match="hole"):
        sink.write(events.batch(10, [b"b"]))
    assert sink.sync(None) == 9
    sink.write(events.batch(9, [], end=12))
    assert sink.sync(None) == 12
    sink.write(events.batch(9, [], end=12))
    assert sink.sync(None) == 12
    assert list(events.rows()) == [events.id(5)]


def test_many_records_go_in_several_puts(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "PUT_ROWS", 7)
    monkeypatch.setattr(events_module, "PUT_BYTES", 1000)
    sink = events.sink()
    for start in range(0, 60, 20):
        sink.write(events.batch(start, [b"v" * (start * 20 + 1)] * 20))
    assert sink.sync(None) == 60
    assert {row: len(columns[b"c:v"]) for row, columns in events.rows().items()} == {
        events.id(offset): offset // 20 * 400 + 1 for offset in range(60)
    }


def test_of_a_value_that_no_cell_can_hold_the_size_is_kept(events: Events) -> None:
    sink = events.sink()
    sink.write(events.batch(0, [b"v" * CELL_BYTES_MAX, b"v" * (CELL_BYTES_MAX + 1), b"last"]))
    assert sink.sync(None) == 3
    rows = events.rows()
    assert len(rows[events.id(0)][b"c:v"]) == CELL_BYTES_MAX
    assert rows[events.id(1)] == {b"c:t": ms(10), b"c:too_large": b"c:v %d" % (CELL_BYTES_MAX + 1)}
    assert rows[events.id(2)][b"c:v"] == b"last"


def test_while_hbase_is_away_records_wait(events: Events, hbase_thrift: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        nobody = f"127.0.0.1:{closing.getsockname()[1]}"
    events.pool = Pool(nobody, hbase_thrift)
    sink = events.sink()
    sink.write(events.batch(0, [b"one"]))
    with pytest.raises(SinkUnavailableError):
        sink.sync(None)
    assert sink.sync(None) == 1, "the next server"
    assert len(events.rows()) == 1
    sink.write(events.batch(1, [b"two"]))
    assert sink.sync(None) == 2
    assert len(events.rows()) == 2


def test_a_table_that_was_dropped_is_made_again(events: Events) -> None:
    sink = events.sink()
    sink.write(events.batch(0, [b"one"]))
    sink.sync(None)
    events._stranger.delete_table(f"recount_{events.topic}_events", disable=True)
    sink.write(events.batch(1, [b"two"]))
    with pytest.raises(SinkUnavailableError, match=f"recount_{events.topic}_events"):
        sink.sync(None)
    assert sink.sync(None) == 2
    assert list(events.rows()) == [events.id(1)]
