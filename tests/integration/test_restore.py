"""Restore from a real changelog: as little as the directory allows, all of it where that can't be trusted."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from agents.partition import Checkpoint, Partition, TableFold, first_progress
from domain import rows as row_format
from domain.progress import decode_state
from domain.record import Batch
from domain.rows import Kind, Role, Row, parse_key, progress_key
from domain.spec import EventTime, KeyField, TableSpec, TimeFormat, TopicSpec, changelog_topic
from tables.changelog import ChangelogReader, ChangelogSettings, ChangelogWriter
from tables.reset import PartitionReset, renewed, staying
from tables.restore import Restored, restore
from tables.rocksdb import Position, RocksSettings, RocksStore, StoreClosedError
from tests import kafka
from tests.kafka import MakeTopic, unique
from tests.unit.domain.logs import TOPIC, Line, batch_of
from tests.unit.domain.store import State, oracle_state
from tests.waiting import wait_for

SPEC = TopicSpec(TOPIC, EventTime(TimeFormat.EPOCH_MS, "ts"), max_past_ms=300_000)
PLAIN = TableSpec("views", TOPIC, (KeyField("page"),), window_ms=10_000, grace_ms=10_000, retention_ms=40_000)
DEDUP = TableSpec(
    "visits", TOPIC, (KeyField("page"),), window_ms=10_000, grace_ms=10_000, retention_ms=40_000, dedup="id"
)
TABLES = (PLAIN, DEDUP)
STATE_ID = "0123456789abcdef"
NOW_MS = 1_700_000_000_000


def lines(count: int, seed: int = 1, first: int = 0) -> tuple[Line, ...]:
    """Records of every class but one."""
    r = Random(seed)
    found = []
    for offset in range(first, first + count):
        at = NOW_MS + offset * 200
        lag = r.choice((0, 0, 0, 100, 3000, 25_000, 70_000))
        event: dict[str, object] = {"ts": at - lag, "page": f"/{r.randint(0, 9)}", "id": r.randint(0, 200)}
        if r.randint(0, 20) == 0:
            del event["page"]
        value = json.dumps(event).encode() if r.randint(0, 20) else b"not an event"
        found.append(Line(offset, at, None, value))
    return tuple(found)


def fresh(store: RocksStore, state_id: str = STATE_ID) -> Partition:
    """An owner that has counted nothing."""
    tables = [TableFold.resume(one, first_progress(SPEC, one, state_id, 0, []), None) for one in TABLES]
    return Partition(SPEC, 0, store, state_id, tables)


def resumed(store: RocksStore, restored: Restored) -> Partition:
    """An owner that goes on where the restored progress says."""
    tables = []
    for one in TABLES:
        value = store.get(progress_key(Role.STATE, one.name))
        assert value is not None
        tables.append(TableFold.resume(one, decode_state(value), restored.ahead.get(one.name)))
    return Partition(SPEC, 0, store, STATE_ID, tables)


def counted(partition: Partition, table: TableSpec) -> State:
    """What the store and the committed progress say of a table."""
    cells, certificates = {}, {}
    for key, value in partition.store.scan(b""):
        parsed = parse_key(key)
        if parsed is None or parsed.table != table.name:
            continue
        if parsed.kind is Kind.CELL:
            cell = row_format.unpack_cell(value)
            cells[parsed.start_ms, parsed.tail] = (cell.on_time, cell.late, cell.offset)
        elif parsed.kind is Kind.CERTIFICATE:
            certificates[parsed.start_ms] = row_format.unpack_certificate(value)
    committed = next(one.committed for one in partition.tables if one.spec is table)
    return State(dict(committed.tallies), committed.stream_time, cells, certificates)


def is_dropped(row: Row) -> bool:
    """The mark of a dropped window: compaction never takes it away, other than for a later one."""
    key, value = row
    return key[1:2] == Kind.CERTIFICATE.value and value is not None and row_format.unpack_certificate(value).dropped


def assert_counted(partition: Partition, table: TableSpec, everything: tuple[Line, ...]) -> State:
    """The store holds what the oracle says, but for cells of windows that expired and are marked dropped."""
    state, wanted = counted(partition, table), oracle_state(SPEC, table, everything)
    assert wanted.stream_time is not None
    dropped = {start for start, one in state.certificates.items() if one.dropped}
    assert all(start + table.window_ms + table.retention_ms <= wanted.stream_time for start in dropped)
    whole = {at: cell for at, cell in wanted.cells.items() if at[0] not in dropped or at in state.cells}
    certificates = {start: replace(one, dropped=False) for start, one in state.certificates.items()}
    assert replace(state, certificates=certificates) == replace(wanted, cells=whole)
    return state


@dataclass
class Changelog:
    """One changelog partition with its writer, and stores to restore into."""

    settings: ChangelogSettings
    app: str
    folder: Path
    stack: AsyncExitStack
    writer: ChangelogWriter
    written: dict[bytes, bytes] = field(default_factory=dict)
    count: int = 0

    def store(self, name: str = "") -> RocksStore:
        """A store of its own, or the one of that name again."""
        self.count += 1
        store = RocksStore(self.folder / (name or str(self.count)), RocksSettings())
        self.stack.callback(store.close)
        return store

    async def write(self, rows: Sequence[Row]) -> int:
        last = await self.writer.commit(rows)
        for key, value in rows:
            self.written.pop(key, None)
            if value is not None:
                self.written[key] = value
        return last

    async def commit(self, partition: Partition, checkpoint: Checkpoint | None = None) -> None:
        """What a checkpointer does."""
        checkpoint = checkpoint or partition.cut()
        assert checkpoint is not None
        encoded = checkpoint.encode(partition.store)
        last = await self.write(encoded.rows)
        partition.store.commit(encoded.rows, Position(checkpoint.tables[0].progress.state_id, last))
        partition.committed(checkpoint, encoded)

    async def counted(self, partition: Partition, log: tuple[Line, ...], step: int = 60) -> None:
        """Fold a log and commit it, a checkpoint for every `step` records."""
        await self.commit(partition, partition.first_cut())
        for first in range(0, len(log), step):
            partition.fold(batch_of(log[first : first + step]))
            await self.commit(partition)

    async def restore(self, store: RocksStore) -> Restored:
        async with ChangelogReader(self.settings, self.app, TOPIC, 0) as reader:
            return await restore(store, reader, lambda _rows: None)


@pytest.fixture
async def log(kafka_bootstrap: str, make_topic: MakeTopic, tmp_path: Path) -> AsyncIterator[Changelog]:
    app = unique("app")
    make_topic(name=changelog_topic(app, TOPIC), cleanup_policy="compact", message_timestamp_type="LogAppendTime")
    settings = ChangelogSettings(kafka_bootstrap)
    async with AsyncExitStack() as stack:
        writer = ChangelogWriter(settings, app, TOPIC, 0)
        stack.push_async_callback(writer.close)
        await writer.fence()
        yield Changelog(settings, app, tmp_path, stack, writer)


def contents(store: RocksStore) -> dict[bytes, bytes]:
    return {key: value for key, value in store.scan(b"") if key[:1] != b"\x00"}


async def test_an_empty_directory_reads_everything(log: Changelog) -> None:
    everything = lines(600)
    before = fresh(log.store())
    await log.counted(before, everything)
    store = log.store()
    restored = await log.restore(store)
    assert restored.cold
    assert restored.state_id == STATE_ID
    assert not restored.ahead
    assert contents(store) == log.written == contents(before.store)
    for table in TABLES:
        state = assert_counted(resumed(store, restored), table, everything)
        assert set(state.tallies) >= {"on_time", "late", "expired", "malformed", "unkeyed"}
    assert counted(resumed(store, restored), DEDUP).tallies["duplicate"] > 0


async def test_an_empty_changelog_restores_nothing(log: Changelog) -> None:
    restored = await log.restore(log.store())
    assert (restored.state_id, restored.rows, restored.ahead) == (None, 0, {})


async def test_a_directory_that_follows_reads_the_tail_alone(log: Changelog) -> None:
    everything = lines(600)
    partition = fresh(log.store("mine"))
    await log.counted(partition, everything[:540])
    partition.store.close()
    # One more checkpoint of which this directory never heard.
    other = log.store()
    elsewhere = resumed(other, await log.restore(other))
    elsewhere.fold(batch_of(everything[540:]))
    checkpoint = elsewhere.cut()
    assert checkpoint is not None
    tail = len(checkpoint.encode(other).rows)
    await log.commit(elsewhere, checkpoint)

    store = log.store("mine")
    restored = await log.restore(store)
    assert not restored.cold
    assert restored.rows == 1 + tail, "the last row known, to see that it is ours, and those after it"
    assert contents(store) == log.written
    store.close()
    again = await log.restore(log.store("mine"))
    assert (again.cold, again.rows) == (False, 1)


async def stale(log: Changelog, state_id: str, offset: int) -> RocksStore:
    """A directory with rows that are in no changelog, at the given position."""
    store = log.store()
    row = (row_format.window_prefix(Kind.CELL, PLAIN.name, 0) + b"foreign", row_format.pack_cell(9, 9, 9))
    store.commit([row], Position(state_id, offset))
    return store


async def test_a_directory_of_another_state_is_wiped(log: Changelog) -> None:
    await log.counted(fresh(log.store()), lines(300))
    for offset in (0, 5, 40):
        store = await stale(log, "fedcba9876543210", offset)
        restored = await log.restore(store)
        assert restored.cold
        assert contents(store) == log.written


async def test_a_directory_from_before_a_reset_brings_no_row_back(log: Changelog) -> None:
    before = fresh(log.store("mine"))
    await log.counted(before, lines(300))
    before.store.close()
    elsewhere = log.store()
    await log.restore(elsewhere)
    # No tombstones: Kafka drops them after a day, and the directory is older.
    await log.write(renewed(staying(elsewhere, [PLAIN.name]), "fedcba9876543210"))
    restored = await log.restore(log.store("mine"))
    assert (restored.cold, restored.state_id) == (True, "fedcba9876543210")


async def test_a_directory_from_before_a_reset_of_everything_brings_no_row_back(log: Changelog) -> None:
    """Nothing stays that could bear a new state id, but the mark: whoever comes next begins a state of its own."""
    before = fresh(log.store("mine"))
    await log.counted(before, lines(300))
    before.store.close()
    known = log.store()
    await log.restore(known)
    reset = PartitionReset(log.writer, [one.name for one in TABLES])
    await reset.mark(known)
    await reset.clear(known, lambda _rows: None)
    await reset.end()
    restored = await log.restore(log.store("mine"))
    assert restored.cold
    assert restored.state_id not in {None, STATE_ID}, "the mark's, for whoever comes next"
    log.written.clear()
    await log.counted(fresh(log.store(), restored.state_id or ""), lines(60, first=300))
    for offset in (5, 100):
        old = log.store()
        old.commit(known.scan(b"\x01"), Position(STATE_ID, offset))
        assert (await log.restore(old)).cold
        assert contents(old) == log.written, "no row of before is left"


@pytest.mark.parametrize("offset", [-1, 10**6])
async def test_a_directory_at_a_position_outside_the_log_is_wiped(log: Changelog, offset: int) -> None:
    await log.counted(fresh(log.store()), lines(300))
    store = await stale(log, STATE_ID, offset)
    restored = await log.restore(store)
    assert restored.cold
    assert contents(store) == log.written


async def test_a_directory_without_a_position_is_wiped(log: Changelog) -> None:
    await log.counted(fresh(log.store()), lines(300))
    store = await stale(log, STATE_ID, 0)
    store.commit([(b"\x00position", b"damaged")])
    assert (await log.restore(store)).cold
    assert contents(store) == log.written


async def test_rows_of_other_versions_and_tables_are_kept_byte_for_byte(log: Changelog) -> None:
    foreign: list[Row] = [
        (b"\x02c\x05views" + b"\xff" * 9, b"\x00\xff of the next version"),
        (b"\x01?\x05views", b"of a kind not known"),
        (b"\x03", b""),
        (row_format.window_prefix(Kind.CELL, "removed table", 0) + b"k", row_format.pack_cell(1, 2, 3)),
    ]
    await log.write(foreign)
    partition = fresh(log.store())
    await log.counted(partition, lines(100))
    store = log.store()
    restored = await log.restore(store)
    assert contents(store) == log.written
    assert dict(foreign).items() <= contents(store).items()
    assert not restored.ahead, "rows of tables without progress speak of nothing"


async def test_tombstones_remove_rows(log: Changelog) -> None:
    await log.counted(fresh(log.store()), lines(100))
    gone = next(iter(log.written))
    await log.write([(gone, None)])
    store = log.store()
    await log.restore(store)
    assert gone not in contents(store)
    assert contents(store) == log.written


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tail", [False, True])
async def test_after_a_torn_transaction_events_count_once(log: Changelog, seed: int, tail: bool) -> None:
    """Rows without the progress that speaks for them: their events are folded again and not added again."""
    r = Random(seed)
    everything = lines(600, seed)
    partition = fresh(log.store("mine"))
    await log.counted(partition, everything[:300])
    known = log.store()
    partition.fold(batch_of(everything[300:450]))
    checkpoint = partition.cut()
    assert checkpoint is not None
    torn = [row for row in checkpoint.encode(partition.store).rows if row[0][1:2] != Kind.PROGRESS.value]
    await log.write([row for row in torn if r.randint(0, 3) or is_dropped(row)])
    partition.store.close()

    store = log.store("mine") if tail else known
    restored = await log.restore(store)
    assert restored.cold is not tail
    assert set(restored.ahead) == {PLAIN.name, DEDUP.name}
    assert max(one.until for one in restored.ahead.values()) < 450
    again = resumed(store, restored)
    assert again.next_offset == 300
    assert not again.ready, "what is stored speaks of more than was folded"
    for first in range(300, 600, 50):
        until = max((one.ahead.until for one in again.tables if one.ahead is not None), default=-1)
        assert again.ready is (again.next_offset > until)
        again.fold(batch_of(everything[first : first + 50]))
        if again.ready:
            await log.commit(again)
        else:
            assert again.cut() is None, "nothing is committed before the fold has passed it"
    assert again.ready
    for table in TABLES:
        assert any(one.dropped for one in assert_counted(again, table, everything).certificates.values())
    cold = log.store()
    assert_counted(resumed(cold, await log.restore(cold)), PLAIN, everything)


async def test_open_and_aborted_transactions_are_not_restored(
    log: Changelog, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.counted(fresh(log.store()), lines(100))
    async with kafka.producer(kafka_bootstrap, transactional_id=unique("other")) as producer:
        for n in range(3):
            await producer.begin_transaction()
            future = await producer.send(changelog_topic(log.app, TOPIC), b"x", key=b"\x02c%d" % n, partition=0)
            await producer.flush()
            await future
            if n < 2:
                await producer.abort_transaction()
        store = log.store()
        await log.restore(store)
        assert contents(store) == log.written
        await producer.abort_transaction()


def busy(store: RocksStore, rows: list[Row], began: threading.Event, outcomes: list[str]) -> None:
    """Write, read and scan until the store is closed."""
    try:
        while True:
            store.commit(rows)
            began.set()
            store.get_many([key for key, _ in rows])
            sum(1 for _ in store.scan(b""))
    except StoreClosedError:
        outcomes.append("closed")
    except BaseException as err:  # noqa: BLE001 - compared by the test
        outcomes.append(repr(err))


async def test_closing_a_store_waits_for_calls_under_way(tmp_path: Path) -> None:
    """A checkpoint's thread goes on when its task is cancelled; the next owner must find the directory unlocked."""
    rows: list[Row] = [(b"%d" % n, b"x" * 100) for n in range(60_000)]
    for _ in range(3):
        store = RocksStore(tmp_path / "store", RocksSettings())
        began = threading.Event()
        outcomes: list[str] = []
        threads = [threading.Thread(target=busy, args=(store, rows, began, outcomes)) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for("the first write", began.is_set)
        store.close()
        RocksStore(tmp_path / "store", RocksSettings()).close()
        for thread in threads:
            thread.join()
        assert outcomes == ["closed", "closed"]


GOLDEN = Path(__file__).parents[1] / "golden" / "changelog" / "tiny.txt"
TINY = (
    Line(0, 1_700_000_000_000, None, b'{"ts": 1700000000000, "page": "/a", "id": 1}'),
    Line(1, 1_700_000_000_100, b"k", b'{"ts": 1700000000100, "page": "/\xc3\xbc", "id": "1"}'),
    Line(2, 1_700_000_000_200, None, b'{"ts": 1700000000050, "page": "/a", "id": 1}'),
    Line(3, 1_700_000_030_000, None, b'{"ts": 1700000030000, "page": "/a"}'),
    Line(4, 1_700_000_030_100, None, b'{"ts": 1700000000300, "page": "/a", "id": 2}'),
    Line(5, 1_700_000_060_000, None, None),
    Line(7, 1_700_000_060_000, None, b'{"ts": 1700000060000, "page": 7}'),
    Line(8, 1_700_000_060_100, None, b'{"ts": 1700000001000, "page": "/a", "id": 3}'),
)


async def test_the_changelog_of_a_tiny_log_is_as_committed(log: Changelog) -> None:
    """A format: rows a stranger reads, in order, byte for byte. Change it with a new version only."""
    partition = fresh(log.store())
    await log.commit(partition, partition.first_cut())
    batches: list[Batch] = [batch_of(TINY[:3]), batch_of(TINY[3:6], end=7), batch_of(TINY[6:], end=10)]
    for batch in batches:
        partition.fold(batch)
        await log.commit(partition)
    bootstrap, topic = log.settings.bootstrap_servers, changelog_topic(log.app, TOPIC)
    found = (await kafka.read_topic(bootstrap, topic, settled=True))[0]
    text = "".join(f"{one.key!r}\n  {one.value!r}\n" for one in found)
    assert text == GOLDEN.read_text(encoding="utf-8")
