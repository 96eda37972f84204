"""What one partition's owner cuts, and when it cuts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agents.partition import Checkpoint, Followed, Partition, TableFold, first_progress
from domain.fold import Ahead
from domain.keys import encode_key
from domain.progress import Cut, FollowerProgress, Witness, decode_follower, decode_state, record_crc
from domain.rows import Kind, Role, parse_key, progress_key, table_prefix, unpack_certificate
from domain.spec import TableSpec
from tables.rocksdb import RocksStore
from tests.unit.agents.fakes import NOW_MS, STATE_ID, TOPIC, UNIQUE, VIEWS, batch, counted, open_store


@pytest.fixture
def store(state_dir: Path) -> Iterator[RocksStore]:
    opened = open_store(state_dir)
    yield opened
    opened.close()


def table(spec: TableSpec = VIEWS, next_offset: int = 0, ahead: Ahead | None = None) -> TableFold:
    progress = first_progress(TOPIC, spec, STATE_ID, 0, [])
    progress.next_offset = next_offset
    return TableFold.resume(spec, progress, ahead)


def archive(next_offset: int = 0) -> FollowerProgress:
    return FollowerProgress(state_id=STATE_ID, start=0, next_offset=next_offset)


def logs(next_offset: int = 0) -> list[Followed]:
    return [Followed.resume(Role.ARCHIVE, archive(next_offset))]


def cut(partition: Partition) -> Checkpoint:
    found = partition.cut()
    assert found is not None, "something to commit"
    return found


def commit(partition: Partition) -> Checkpoint:
    checkpoint = cut(partition)
    encoded = checkpoint.encode(partition.store)
    partition.store.commit(encoded.rows)
    partition.committed(checkpoint, encoded)
    return checkpoint


def test_nothing_is_cut_before_the_fold_has_passed_the_rows_that_are_ahead(store: RocksStore) -> None:
    start = NOW_MS - NOW_MS % VIEWS.window_ms
    ahead = Ahead(cells={(start, encode_key("a")): 4}, until=4)
    partition = Partition(TOPIC, 0, store, STATE_ID, [table(ahead=ahead), table(UNIQUE)], logs())
    for one in (batch(0, "aa"), batch(2, "aa")):
        partition.fold(one)
        partition.logs[Role.ARCHIVE].reached(one.end)
        assert not partition.ready
        assert partition.cut() is None
    partition.fold(batch(4, "a"))  # offset 4 is the last that stored rows speak of
    assert partition.ready
    checkpoint = cut(partition)
    assert [one.progress.next_offset for one in checkpoint.tables] == [5, 5]
    assert counted(checkpoint.encode(store).rows) == {}, "the stored cell has all five"
    assert counted(checkpoint.encode(store).rows, "unique") == {"a": 5}
    partition.fold(batch(5, "a"))
    assert cut(partition).tables[0].dirty[start].last == {"a": 5}


def test_nothing_moved_is_nothing_cut(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table()], logs())
    assert partition.cut() is None
    partition.fold(batch(0, "ab"))
    commit(partition)
    assert partition.cut() is None


def test_after_a_fold_that_failed_halfway_nothing_is_cut_any_more(
    store: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table(), table(UNIQUE)])
    partition.fold(batch(0, "ab"))
    monkeypatch.setattr(store, "get_many", lambda _keys: 1 / 0)  # the second table asks for its event ids
    with pytest.raises(ZeroDivisionError):
        partition.fold(batch(2, "ab"))
    monkeypatch.undo()
    assert partition.tables[0].dirty, "the first table has counted the batch, and its progress was moved"
    assert partition.cut() is None


def test_control_records_alone_move_progress(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table()])
    partition.fold(batch(0, "", end=3))
    assert cut(partition).tables[0].progress.next_offset == 3


def test_progress_rows_come_last(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table(), table(UNIQUE)], logs())
    partition.fold(batch(0, "abcabcabcabc"))
    partition.logs[Role.ARCHIVE].reached(5)
    rows = cut(partition).encode(store).rows
    kinds = [parsed.kind for key, _ in rows if (parsed := parse_key(key))]
    assert kinds.index(Kind.PROGRESS) == len(rows) - 3
    assert set(kinds[:-3]) == {Kind.CELL, Kind.CERTIFICATE, Kind.ID}
    keys = [key for key, _ in rows]
    assert keys[-3:] == [
        progress_key(Role.ARCHIVE),
        progress_key(Role.STATE, "views"),
        progress_key(Role.STATE, "unique"),
    ]
    values = [value for _, value in rows[-3:] if value is not None]
    assert decode_follower(values[0]).next_offset == 5
    assert [decode_state(value).next_offset for value in values[1:]] == [12, 12]


def test_the_witness_is_the_last_record_folded_and_only_rises(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table()], logs())
    last = batch(0, "abcde")
    partition.fold(last)
    partition.fold(batch(5, "", end=7))
    witness = commit(partition).tables[0].progress.witness
    assert witness == Witness(4, int(last.timestamps[-1]), record_crc(last.keys[-1], last.values[-1]))

    # The next owner reads from where the archive is, below what the table has counted.
    again = Partition(TOPIC, 0, store, STATE_ID, [TableFold.resume(VIEWS, partition.tables[0].committed, None)], logs())
    assert again.next_offset == 0
    again.fold(batch(0, "ab"))
    again.logs[Role.ARCHIVE].reached(2)
    assert commit(again).tables[0].progress.witness == witness
    again.fold(batch(2, "cde", end=7))
    again.fold(batch(7, "f"))
    found = commit(again).tables[0].progress.witness
    assert found is not None
    assert found.offset == 7


def test_the_group_offset_is_what_every_table_has_committed(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table(next_offset=7), table(UNIQUE, next_offset=4)])
    assert partition.next_offset == 4
    assert partition.group_offset() == 4
    partition.fold(batch(4, "abcdef"))
    checkpoint = cut(partition)
    assert partition.group_offset() == 4, "not before it is committed"
    partition.committed(checkpoint, checkpoint.encode(store))
    assert partition.group_offset() == 10


def test_a_table_ignores_records_below_its_own_progress(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table(next_offset=7), table(UNIQUE, next_offset=4)])
    partition.fold(batch(4, "abcdef"))
    rows = cut(partition).encode(store).rows
    assert counted(rows) == dict.fromkeys("def", 1)
    assert counted(rows, "unique") == dict.fromkeys("abcdef", 1)


def test_archive_progress_in_a_cut_is_what_was_durable_at_the_cut(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table()], logs(2))
    partition.fold(batch(0, "abcdef"))
    checkpoint = cut(partition)
    assert not checkpoint.followers, "it stands where it is committed"
    partition.committed(checkpoint, checkpoint.encode(store))
    partition.logs[Role.ARCHIVE].reached(3)
    checkpoint = cut(partition)
    partition.logs[Role.ARCHIVE].reached(5)
    assert [progress for _, progress in checkpoint.followers] == [archive(3)]
    assert partition.logs[Role.ARCHIVE].committed == archive(2)
    partition.committed(checkpoint, checkpoint.encode(store))
    assert partition.logs[Role.ARCHIVE].committed == archive(3)
    assert [progress for _, progress in cut(partition).followers] == [archive(5)]


def test_reading_starts_where_the_slowest_of_tables_and_archive_is(store: RocksStore) -> None:
    tables = [table(next_offset=7), table(UNIQUE, next_offset=9)]
    assert Partition(TOPIC, 0, store, STATE_ID, tables).next_offset == 7
    assert Partition(TOPIC, 0, store, STATE_ID, tables, logs(3)).next_offset == 3
    assert Partition(TOPIC, 0, store, STATE_ID, tables, logs(8)).next_offset == 7


def partial(store: RocksStore, spec: TableSpec = VIEWS) -> dict[int, bool]:
    """By window, counted from the first record's."""
    found = {}
    for key, value in store.scan(table_prefix(Kind.CERTIFICATE, spec.name)):
        parsed = parse_key(key)
        assert parsed is not None
        found[(parsed.start_ms - NOW_MS) // 1000] = unpack_certificate(value).partial
    return found


def test_windows_a_gap_can_touch_are_partial_those_counted_before_it_too(store: RocksStore) -> None:
    topic = replace(TOPIC, max_past_ms=2_000, max_future_ms=1_000)
    folded = table()
    partition = Partition(topic, 0, store, STATE_ID, [folded])
    partition.fold(batch(0, "abcdef", step_ms=1000))
    commit(partition)
    assert not any(partial(store).values())
    # Records 6 to 9 are gone: the last one before has time 5, the first one after time 10.
    folded.cuts.append(Cut(6, 10, before_ms=NOW_MS + 5_000))
    folded.standing.next_offset = partition.next_offset = 10
    commit(partition)
    assert not any(partial(store).values()), "not known yet"
    partition.fold(batch(10, "a", step_ms=1000))
    partition.fold(batch(11, "b", step_ms=1000))
    partition.fold(batch(12, "c", step_ms=1000))
    progress = commit(partition).tables[0].progress
    assert progress.cuts == [Cut(6, 10, NOW_MS + 5_000, NOW_MS + 10_000)]
    expected = dict.fromkeys([0, 1, 2], False) | dict.fromkeys([3, 4, 5, 10, 11], True) | {12: False}
    assert partial(store) == expected
    assert partition.tables[0].committed.cuts == progress.cuts
    partition.fold(batch(13, "d", step_ms=0))
    commit(partition)
    assert partial(store)[0] is False


def test_a_new_owner_goes_on_from_the_stream_time_that_was_committed(store: RocksStore) -> None:
    partition = Partition(TOPIC, 0, store, STATE_ID, [table()])
    partition.fold(batch(0, "a", step_ms=0))
    partition.fold(batch(1, "b", step_ms=VIEWS.window_ms + VIEWS.grace_ms))
    committed = commit(partition).tables[0].progress
    again = Partition(TOPIC, 0, store, STATE_ID, [TableFold.resume(VIEWS, committed, None)])
    again.fold(batch(2, "c", step_ms=0))  # into the first window, which had closed
    progress = commit(again).tables[0].progress
    assert progress.tallies == {"on_time": 2, "late": 1}
    assert progress.stream_time == committed.stream_time


def test_a_table_that_is_behind_has_a_stream_time_of_its_own(store: RocksStore) -> None:
    ahead = table()
    partition = Partition(TOPIC, 0, store, STATE_ID, [ahead])
    log = [batch(0, "a", step_ms=0), batch(1, "b", step_ms=0), batch(2, "c", step_ms=10 * VIEWS.window_ms)]
    for one in log:
        partition.fold(one)
    commit(partition)
    # Added later, it backfills while the other waits: what the other has seen makes nothing late here.
    both = [TableFold.resume(VIEWS, ahead.committed, None), table(UNIQUE)]
    again = Partition(TOPIC, 0, store, STATE_ID, both)
    for one in log:
        again.fold(one)
    progress = [one.progress for one in commit(again).tables]
    assert [one.tallies for one in progress] == [{"on_time": 3}, {"on_time": 3}]
    assert progress[0].stream_time == progress[1].stream_time
