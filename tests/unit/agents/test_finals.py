"""The finals of closed windows: each on-time cell once, whole, in order, however large the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from agents.partition import Followed, Partition
from domain.finals import Final
from domain.progress import FollowerProgress
from domain.rows import Kind, Role, parse_key, unpack_certificate, window_prefix
from tables.rocksdb import RocksStore
from tests.unit.agents.fakes import NOW_MS, STATE_ID, TOPIC, UNIQUE, VIEWS, batch, open_store, resumed

TABLE = replace(VIEWS, finals_topic="finals")
FIRST = NOW_MS - NOW_MS % VIEWS.window_ms
CLOSED_MS = TABLE.window_ms + TABLE.grace_ms
GONE_MS = TABLE.window_ms + TABLE.retention_ms


@pytest.fixture
def store(state_dir: Path) -> Iterator[RocksStore]:
    opened = open_store(state_dir)
    yield opened
    opened.close()


def open_partition(store: RocksStore, *, archive: bool = False) -> Partition:
    """A new owner: it goes on where the store's progress says."""
    folds = resumed(store, TABLE, UNIQUE)
    log = Followed.resume(Role.ARCHIVE, FollowerProgress(state_id=STATE_ID, start=0, next_offset=0))
    return Partition(TOPIC, 0, store, STATE_ID, folds, [log] if archive else [])


def commit(partition: Partition, max_records: int = 1000) -> list[tuple[str, Final]] | None:
    """The finals of a checkpoint; None if there was nothing to commit."""
    checkpoint = partition.cut()
    if checkpoint is None:
        return None
    encoded = checkpoint.encode(partition.store, max_records)
    partition.store.commit(encoded.rows)
    partition.committed(checkpoint, encoded)
    assert set(encoded.finals) <= {"finals"}
    return [
        (key.decode(), msgspec.json.decode(value, type=Final))
        for key, value in encoded.finals.get("finals", ())
        if value is not None
    ]


def commit_all(partition: Partition, max_records: int = 1000) -> list[tuple[str, Final]]:
    """The finals of checkpoints until nothing is left to do."""
    found: list[tuple[str, Final]] = []
    for _ in range(50):
        finals = commit(partition, max_records)
        if finals is None:
            return found
        found += finals
    raise AssertionError("it never settles")


def final(on_time: int, offset: int, start: int = FIRST) -> Final:
    return Final("views", start, 0, on_time, offset, partial=False)


def test_finals_are_sent_at_the_close_and_not_before(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "aba"))
    partition.fold(batch(3, "b", step_ms=(CLOSED_MS - 1) // 3))
    assert commit_all(partition) == []
    partition.fold(batch(4, "b", step_ms=CLOSED_MS // 4))  # stream time is now exactly end + grace
    partition.fold(batch(5, "ac", step_ms=0))  # late: not in a final
    assert commit_all(partition) == [("a", final(2, 2)), ("b", final(1, 2))]
    value = store.get(window_prefix(Kind.CERTIFICATE, "views", FIRST))
    assert value is not None
    assert unpack_certificate(value).finals_done
    partition.fold(batch(7, "a", step_ms=0))
    assert commit_all(partition) == [], "once"
    assert commit_all(open_partition(store)) == []


def test_what_one_checkpoint_counts_and_closes_is_in_the_finals_of_the_next(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "a"))
    assert commit_all(partition) == []
    partition.fold(batch(1, "ab", step_ms=1))
    partition.fold(batch(3, "z", step_ms=CLOSED_MS))
    assert commit_all(partition) == [("a", final(2, 2)), ("b", final(1, 2))]


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
def test_a_large_window_is_sent_in_several_checkpoints_each_cell_once(store: RocksStore, limit: int) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "abcdefg", step_ms=1))
    partition.fold(batch(7, "z", step_ms=CLOSED_MS))
    sent: list[tuple[str, Final]] = []
    for n in range(30):
        partition.fold(batch(8 + n, "abx"[n % 3], step_ms=0))  # late, between the others
        found = commit(partition, limit)
        assert found is not None
        assert len(found) <= limit
        sent += found
        if n % 2:
            partition = open_partition(store)
    assert [key for key, _ in sent] == list("abcdefg")
    assert {one.on_time for _, one in sent} == {1}


def test_cells_stay_until_their_finals_are_sent(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "abc", step_ms=1))
    partition.fold(batch(3, "z", step_ms=GONE_MS))  # closed and expired at once
    assert [key for key, _ in commit_all(partition, 2)] == ["a", "b", "c"]
    left = [parsed.start_ms for key, _ in store.scan(b"\x01c") if (parsed := parse_key(key)) is not None]
    assert FIRST not in left


def test_finals_wait_for_nobody_but_drops_for_followers(store: RocksStore) -> None:
    partition = open_partition(store, archive=True)
    partition.fold(batch(0, "a"))
    partition.fold(batch(1, "z", step_ms=GONE_MS))
    assert commit_all(partition) == [("a", final(1, 0))]
    assert store.get(window_prefix(Kind.CELL, "views", FIRST) + b"a") is not None


def test_a_death_between_a_close_and_its_finals_leaves_them_to_the_next_owner(store: RocksStore) -> None:
    partition = open_partition(store)
    partition.fold(batch(0, "ab", step_ms=1))
    partition.fold(batch(2, "z", step_ms=CLOSED_MS))
    assert commit(partition) == []
    again = open_partition(store)  # and the topic is idle from here on
    assert [key for key, _ in commit_all(again)] == ["a", "b"]
    assert commit_all(open_partition(store)) == []


def test_a_checkpoint_reads_on_where_the_one_before_ended(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, limit = "abcdefghijklmnopqrst", 4
    partition = open_partition(store)
    partition.fold(batch(0, keys, step_ms=1))
    partition.fold(batch(len(keys), "z", step_ms=CLOSED_MS))
    read = 0

    def counted(prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        nonlocal read
        for row in RocksStore.scan(store, prefix, start):
            read += prefix.startswith(window_prefix(Kind.CELL, "views", FIRST))
            yield row

    monkeypatch.setattr(store, "scan", counted)
    assert [key for key, _ in commit_all(partition, limit)] == list(keys)
    assert read <= len(keys) + len(keys) / limit, "each cell once, and one to see that there are more"
