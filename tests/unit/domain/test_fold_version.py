"""A golden corpus: a change that classes or keys any record otherwise must bump FOLD_VERSION.

Then, and only then, rename golden/fold_v*.ndjson and write the new classes into it.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from domain.decode import Decoder
from domain.fold import Dirty, Standing, TableClass, fold
from domain.keys import encode_key
from domain.spec import FOLD_VERSION, EventTime, KeyField, KeyType, TableSpec, TimeFormat, TopicSpec, WhereRule
from tests.unit.domain.logs import TOPIC, Line, batch_of
from tests.unit.domain.store import Store, oracle_state

CORPUS = Path(__file__).parent / "golden" / f"fold_v{FOLD_VERSION}.ndjson"
EPOCH_MS = TopicSpec(TOPIC, EventTime(TimeFormat.EPOCH_MS, "t"), max_future_ms=20_000, max_past_ms=200_000)
EPOCH_S = TopicSpec(TOPIC, EventTime(TimeFormat.EPOCH_S, "s"), max_future_ms=20_000, max_past_ms=200_000)
ISO8601 = TopicSpec(TOPIC, EventTime(TimeFormat.ISO8601, "at.iso"), max_future_ms=20_000, max_past_ms=200_000)
KAFKA = TopicSpec(TOPIC, EventTime(TimeFormat.KAFKA))
SMALL = {"window_ms": 10_000, "grace_ms": 5000, "retention_ms": 40_000}
TABLES: dict[str, tuple[TopicSpec, TableSpec]] = {
    "one field": (EPOCH_MS, TableSpec("one", TOPIC, (KeyField("k"),), dedup="id", **SMALL)),  # type: ignore[arg-type]
    "three fields": (
        ISO8601,
        TableSpec(
            "three",
            TOPIC,
            (KeyField("k"), KeyField("user.n", KeyType.INT), KeyField("user.flag", KeyType.BOOL)),
            **SMALL,  # type: ignore[arg-type]
        ),
    ),
    "integers": (EPOCH_S, TableSpec("integers", TOPIC, (KeyField("user.n", KeyType.INT),), **SMALL)),  # type: ignore[arg-type]
    "kafka key": (
        KAFKA,
        TableSpec(
            "kafka",
            TOPIC,
            (KeyField(None),),
            where=(WhereRule("w", allowed=("CN", 1, True, 0.5)), WhereRule("user", exists=True)),
        ),
    ),
}


def corpus() -> list[dict[str, Any]]:
    with CORPUS.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def line_of(record: dict[str, Any]) -> Line:
    key, value = (None if record[name] is None else base64.b64decode(record[name]) for name in ("key", "value"))
    return Line(record["offset"], record["timestamp"], key, value)


def classes(name: str, log: list[Line]) -> list[list[Any]]:
    """Class, window start and key of each record, as far as a counted one has them."""
    topic, table = TABLES[name]
    decoder, store, result = Decoder(topic, [table]), Store(Standing(log[0].offset)), []
    for line in log:
        before = Counter(store.standing.tallies)
        dirty: Dirty = {}
        fold(table, decoder.decode(batch_of((line,))), store.standing, dirty, store.known_ids)
        ((label, _),) = (Counter(store.standing.tallies) - before).items()
        starts = [start for start, window in dirty.items() if window.certificate.offset >= 0]
        keys = [base64.b64encode(encode_key(raw)).decode() for window in dirty.values() for raw in window.last]
        result.append([label, *starts, *keys])
        store.commit(dirty)
    return result


@pytest.mark.parametrize("name", list(TABLES))
def test_every_record_is_classed_and_keyed_as_this_version_always_did(name: str) -> None:
    records = corpus()
    log = [line_of(record) for record in records]
    for record, got in zip(records, classes(name, log), strict=True):
        assert got == record["classes"][name], f"offset {record['offset']}: bump FOLD_VERSION if this is meant"


@pytest.mark.parametrize("name", list(TABLES))
def test_the_corpus_agrees_with_the_oracle(name: str) -> None:
    records = corpus()
    topic, table = TABLES[name]
    tallies = Counter(record["classes"][name][0] for record in records)
    assert tallies == oracle_state(topic, table, tuple(map(line_of, records))).tallies


def test_the_corpus_holds_every_class() -> None:
    records = corpus()
    assert len(records) >= 60
    seen = Counter(one[0] for record in records for one in record["classes"].values())
    assert set(seen) == {kind.label for kind in TableClass}
