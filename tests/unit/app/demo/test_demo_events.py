"""The made-up stream holds every class it promises, and the oracle says so."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from app.config import parse_config
from app.demo.events import DISORDER_MS, MALFORMED, SPAN_MS, Stream
from app.demo.settings import APP, TABLE, config_text
from tests.spec import oracle

END_MS = 1_790_000_000_000
COUNT = 20_000
PARTITIONS = 4


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(COUNT, END_MS, PARTITIONS)


@pytest.fixture(scope="module")
def logs(stream: Stream) -> list[list[dict[str, Any]]]:
    """Each partition's records, as Kafka would keep them."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(PARTITIONS)]
    for columns in stream.slices(3000):
        for log, column in zip(found, columns, strict=True):
            for timestamp, key, value in zip(column.timestamps, column.keys, column.values, strict=True):
                log.append({"offset": len(log), "timestamp": timestamp, "key": key, "value": value})
    return found


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("demo")
    text = config_text("worker-1", "127.0.0.1:9092", folder.as_uri(), folder)
    parsed = parse_config(text, environ={})
    assert (parsed.app.id, parsed.tables[0].name) == (APP, TABLE)
    loaded: dict[str, Any] = oracle.tomllib.loads(text)
    return loaded


@pytest.fixture(scope="module")
def answers(logs: list[list[dict[str, Any]]], config: dict[str, Any]) -> list[dict[str, Any]]:
    return [oracle.fold_partition(log, config["topics"][0], config["tables"][0]) for log in logs]


def test_every_class_comes_in_its_share(answers: list[dict[str, Any]]) -> None:
    tallies: Counter[str] = Counter()
    for answer in answers:
        tallies.update(answer["tallies"])
    assert tallies == {"late": 20, "expired": 4, "malformed": len(MALFORMED), "on_time": COUNT - 24 - len(MALFORMED)}


def test_every_kind_of_malformed_record_is_one(stream: Stream, config: dict[str, Any]) -> None:
    assert set(stream.malformed.values()) == set(MALFORMED)
    for at in stream.malformed:
        (column,) = (one for one in stream.records(at, at + 1) if len(one))
        record = {"timestamp": column.timestamps[0], "key": column.keys[0], "value": column.values[0]}
        with pytest.raises(oracle.Malformed):
            oracle.classify_topic(record, config["topics"][0])


def test_the_stream_spans_many_windows_and_ends_about_now(answers: list[dict[str, Any]]) -> None:
    starts = {start for answer in answers for start in answer["certificates"]}
    assert len(starts) >= 12
    assert min(starts) >= END_MS - SPAN_MS - 2 * DISORDER_MS - 300_000
    assert max(answer["stream_time"] for answer in answers) <= END_MS


def test_keys_are_skewed_and_spread_over_all_partitions(answers: list[dict[str, Any]]) -> None:
    sizes = [sum(answer["tallies"].values()) for answer in answers]
    assert min(sizes) > COUNT / PARTITIONS * 0.8
    counts: Counter[str] = Counter()
    for answer in answers:
        for keys in answer["cells"].values():
            counts.update({key: on_time + late for key, (on_time, late, _) in keys.items()})
    assert len(counts) > 1500
    assert counts.most_common(1)[0][1] > COUNT / 20


def test_arrivals_never_go_back_and_most_events_are_out_of_order(logs: list[list[dict[str, Any]]]) -> None:
    for log in logs:
        timestamps = [record["timestamp"] for record in log]
        assert timestamps == sorted(timestamps)


def test_a_minute_of_it_is_a_burst(stream: Stream) -> None:
    per_minute = Counter((stream.arrivals // 60_000).tolist())
    ordinary = sorted(per_minute.values())[len(per_minute) // 2]
    assert max(per_minute.values()) > 4 * ordinary


def test_the_same_seed_makes_the_same_stream_however_it_is_sliced() -> None:
    one, two = Stream(500, END_MS, PARTITIONS), Stream(500, END_MS, PARTITIONS)
    whole = one.records(0, 500)
    halves = list(two.slices(250))
    assert [column.values for column in whole] == [a.values + b.values for a, b in zip(*halves, strict=True)]


@pytest.mark.parametrize("count", [1, 9, 40])
def test_a_handful_of_events_is_a_stream_too(count: int) -> None:
    assert sum(len(column) for column in Stream(count, END_MS, PARTITIONS).records(0, count)) == count
