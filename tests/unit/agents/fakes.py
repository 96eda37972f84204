"""Fakes of everything around the agents: a changelog, a sink, the source, and what opens partitions."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.follower import Synced
from agents.opening import Opened, Opening, to_the_end
from agents.partition import Followed, Partition, TableFold, first_progress
from agents.source import GroupAnswer, Place, SourceRecord
from domain.errors import FencedError, RecountError, SinkUnavailableError
from domain.progress import FollowerProgress, StateProgress, decode_follower, decode_state
from domain.record import Batch, TimedBatch
from domain.rows import Kind, Role, Row, parse_key, progress_key, unpack_cell
from domain.spec import EventTime, KeyField, TableSpec, TimeFormat, TopicSpec
from sinks.base import LogSink
from tables.changelog import Bounds, ChangelogSettings, ChangelogWriter
from tables.rocksdb import Position, RocksSettings, RocksStore

NOW_MS = 1_700_000_000_000
STATE_ID = "state-1"
BATCH_BYTES = 40
TOPIC = TopicSpec("clicks", EventTime(TimeFormat.KAFKA))
VIEWS = TableSpec("views", "clicks", (KeyField("k"),), window_ms=1000, grace_ms=1000, retention_ms=60_000)
UNIQUE = TableSpec("unique", "clicks", (KeyField("k"),), window_ms=1000, grace_ms=1000, retention_ms=60_000, dedup="id")
P0, P1 = Place("clicks", 0), Place("clicks", 1)


def batch(
    start: int,
    keys: str,
    *,
    place: Place = P0,
    end: int | None = None,
    ids: Sequence[int] | None = None,
    step_ms: int = 100,
) -> Batch:
    """One record for each character of `keys`; offset n has the time n steps on."""
    offsets = range(start, start + len(keys))
    events = [{"k": key, "id": offset} for key, offset in zip(keys, ids or offsets, strict=True)]
    return Batch(
        topic=place.topic,
        partition=place.partition,
        start=start,
        end=start + len(keys) if end is None else end,
        offsets=np.array(offsets, np.int64),
        timestamps=np.array([NOW_MS + step_ms * offset for offset in offsets], np.int64),
        keys=[None] * len(keys),
        values=[json.dumps(event).encode() for event in events],
        size=BATCH_BYTES,
    )


def resumed(store: RocksStore, *specs: TableSpec) -> list[TableFold]:
    """The folds of a new owner: they go on where the store's progress says."""
    folds = []
    for one in specs:
        value = store.get(progress_key(Role.STATE, one.name))
        progress = first_progress(TOPIC, one, STATE_ID, 0, []) if value is None else decode_state(value)
        folds.append(TableFold.resume(one, progress, None))
    return folds


def timed(one: Batch) -> TimedBatch:
    return TimedBatch(one, one.timestamps, np.ones(len(one), np.bool_))


def rows_of(store: RocksStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"\x01"))


def counted(rows: Iterable[Row], table: str = "views") -> dict[str, int]:
    """Counts of all windows by key, on time and late ones together."""
    found: dict[str, int] = {}
    for key, value in dict(rows).items():
        parsed = parse_key(key)
        if parsed is not None and (parsed.kind, parsed.table) == (Kind.CELL, table) and value is not None:
            cell = unpack_cell(value)
            found[parsed.tail.decode()] = found.get(parsed.tail.decode(), 0) + cell.on_time + cell.late
    return found


class FaultyStore(RocksStore):
    """The real one; the next `failing_reads` and `failing_commits` calls fail as a full or broken disk does."""

    failing_reads = 0
    failing_commits = 0
    failure: Exception = OSError("Input/output error")

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self.failing_reads:
            self.failing_reads -= 1
            raise self.failure
        return super().get_many(keys)

    def commit(self, rows: Iterable[Row], position: Position | None = None) -> None:
        if self.failing_commits:
            self.failing_commits -= 1
            raise OSError("No space left on device")
        super().commit(rows, position)


def open_store(path: Path) -> FaultyStore:
    return FaultyStore(path, RocksSettings(cache_bytes=1 << 20))


class FakeLog:
    """A changelog partition: committed rows in order, and who initialised last."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.epoch = 0

    def state(self, table: str = "views") -> StateProgress | None:
        value = dict(self.rows).get(progress_key(Role.STATE, table))
        return None if value is None else decode_state(value)

    def archive(self) -> FollowerProgress | None:
        value = dict(self.rows).get(progress_key(Role.ARCHIVE))
        return None if value is None else decode_follower(value)


class FakeWriter(ChangelogWriter):
    """The real writer, tainting and all, over a list. `gate` holds commits up; `errors` are raised by the next ones."""

    def __init__(self, changelog: FakeLog, released: Callable[[], None] = lambda: None) -> None:
        super().__init__(ChangelogSettings("nowhere", request_timeout_ms=10_000), "app", "clicks", 0)
        self._producer = object()
        self._changelog = changelog
        self._released = released
        changelog.epoch += 1
        self._epoch = changelog.epoch
        self.begun = 0
        self.commits: list[list[Row]] = []
        self.errors: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self.closing = False
        self.close_gate: asyncio.Event | None = None

    async def _commit(self, producer: Any, rows: Sequence[Row], finals: Mapping[str, Sequence[Row]]) -> int:
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self._epoch != self._changelog.epoch:
            raise FencedError("somebody initialised after us")
        self.commits.append(list(rows))
        self._changelog.rows += rows
        return len(self._changelog.rows) - 1

    async def close(self) -> None:
        self.closing = True
        if self.close_gate is not None:
            await self.close_gate.wait()
        self._producer = None
        self._released()


class FakeSink:
    """`LogSink` into a list of (call, position). `down` makes it unavailable, `blocked` holds a call in its thread."""

    def __init__(self, start: int = 0) -> None:
        self.end = start
        self.calls: list[tuple[str, int]] = []
        self.down = False
        self.errors: dict[str, list[Exception]] = {}
        self.blocked = ""
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, one: TimedBatch) -> None:
        self._enter("write")
        assert not self.calls or one.batch.start == self.end, "a batch continues the one before"
        self.calls.append(("write", one.batch.start))
        self.end = one.batch.end

    def sync(self, close_before_ms: int | None) -> int:
        self._enter("sync")
        self.calls.append(("sync", self.end))
        return self.end

    def close(self) -> int:
        self._enter("close")
        self.calls.append(("close", self.end))
        return self.end

    def abort(self) -> None:
        self.calls.append(("abort", self.end))

    def written(self) -> list[int]:
        return [position for call, position in self.calls if call == "write"]

    def _enter(self, call: str) -> None:
        if self.blocked == call:
            self.entered.set()
            assert self.released.wait(30), "the test releases the sink"
        if self.down:
            raise SinkUnavailableError("disk", "down")
        if self.errors.get(call):
            raise self.errors[call].pop(0)


class FakeSource:
    """`Source` with one log for all; keeps what was asked of the reading position."""

    def __init__(self) -> None:
        self.log = Bounds(0, 1000)
        self.no_room: Exception | None = None  # for a partition in the changelog
        self.positions: dict[Place, int] = {}
        self.did: list[tuple[str, Place] | tuple[str, Place, int]] = []
        self.group_offsets: dict[Place, int] = {}
        self.answers: list[GroupAnswer | Exception] = []  # of the group, to its next questions; then it accepts
        self.asked = 0
        self.gate: asyncio.Event | None = None  # holds the group's answers up
        self.seek_errors: list[Exception] = []
        self.compacted = True

    async def prepare(self, place: Place) -> None:
        if self.no_room is not None:
            raise self.no_room

    async def bounds(self, place: Place) -> Bounds:
        return self.log

    async def offset_at(self, place: Place, time_ms: int) -> int:
        return self.log.begin

    async def record_at(self, place: Place, offset: int) -> SourceRecord | None:
        return None

    async def compacts(self, topic: str) -> bool:
        return self.compacted

    async def group_offset(self, place: Place) -> int | None:
        return self.group_offsets.get(place)

    async def commit_group_offsets(self, offsets: dict[Place, int]) -> None:
        self.group_offsets.update(offsets)

    async def ask_group(self) -> GroupAnswer:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else GroupAnswer.ACCEPTED
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def seek(self, place: Place, offset: int) -> None:
        if self.seek_errors:
            raise self.seek_errors.pop(0)
        self.did.append(("seek", place, offset))

    def reading(self, place: Place) -> int | None:
        return self.positions.get(place)

    def pause(self, place: Place) -> None:
        self.did.append(("pause", place))

    def resume(self, place: Place) -> None:
        self.did.append(("resume", place))


class FakeListener:
    """`events.Listener` into a list."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Place]] = []
        self.failures: list[RecountError] = []
        self.checks: list[tuple[Place, bool]] = []

    def of(self, place: Place) -> list[str]:
        return [what for what, where in self.told if where == place]

    def restoring(self, place: Place) -> None:
        self.told.append(("restoring", place))

    def restored(self, place: Place, rows: int, seconds: float, *, cold: bool) -> None:
        self.told.append(("restored", place))

    def owned(self, place: Place) -> None:
        self.told.append(("owned", place))

    def dropped(self, place: Place) -> None:
        self.told.append(("dropped", place))

    def stale(self, place: Place) -> None:
        self.told.append(("stale", place))

    def hole(self, place: Place) -> None:
        self.told.append(("hole", place))

    def folded(self, place: Place, partition: Partition, records: int) -> None:
        self.told.append(("folded", place))

    def committed(self, place: Place, partition: Partition, rows: int, seconds: float) -> None:
        self.told.append(("committed", place))

    def commit_failed(self, place: Place, error: RecountError) -> None:
        self.told.append(("commit_failed", place))
        self.failures.append(error)

    def cells_checked(self, place: Place, *, mismatch: bool) -> None:
        self.checks.append((place, mismatch))

    def synced(self, place: Place, role: Role, done: Synced) -> None:
        self.told.append(("archived" if role is Role.ARCHIVE else role.value, place))

    def sink_failed(self, place: Place, role: Role, error: RecountError) -> None:
        self.told.append(("sink_failed", place))

    def waits(self, place: Place, role: Role, size: int) -> None:
        self.told.append(("waits", place))

    def backlog(self, place: Place, role: Role, size: int, *, full: bool) -> None:
        self.told.append(("full" if full else "room", place))

    def crowded(self, place: Place, cells: int, *, full: bool) -> None:
        self.told.append(("crowded" if full else "roomy", place))

    def counts_put(self, place: Place, table: str, cells: int) -> None:
        self.told.append(("counts_put", place))

    def counts_backlog(self, place: Place, table: str, cells: int) -> None:
        self.told.append(("counts_backlog", place))

    def rescan(self, place: Place, table: str, since: int) -> None:
        self.told.append(("rescan", place))


class FakeArchives:
    """`Archives` whose recovery gives the prepared answers, then True."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def open(self, topic: TopicSpec, partition: int, start: int) -> FakeSink:
        return FakeSink(start)

    def recover(self, topic: str, partition: int) -> bool:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeOpening(Opening):
    """Opens from a `FakeLog` per partition. A gate holds an opening up once it has fenced and locked its directory.

    `release_gate` holds up the letting go of one that was cancelled; a `deaf` one swallows its cancellation.
    """

    def __init__(self, data_dir: Path, tables: Sequence[TableSpec], *, archive: bool) -> None:
        self._data_dir = data_dir
        self._specs = tables
        self._archive = archive
        self.logs: dict[Place, FakeLog] = {}
        self.asked: list[Place] = []
        self.waiting: set[Place] = set()
        self.held: set[Place] = set()
        self.gates: dict[Place, asyncio.Event] = {}
        self.release_gate: asyncio.Event | None = None
        self.deaf = False
        self.errors: dict[Place, list[Exception]] = {}
        self.writers: dict[Place, FakeWriter] = {}
        self.stores: dict[Place, FaultyStore] = {}
        self.sinks: dict[Place, FakeSink] = {}

    async def open(self, place: Place) -> Opened:
        self.asked.append(place)
        changelog = self.logs.setdefault(place, FakeLog())
        assert place not in self.held, "two owners at once"
        self.held.add(place)
        writer = self.writers[place] = FakeWriter(changelog, lambda: self.held.discard(place))
        store = self.stores[place] = open_store(self._data_dir / str(place))
        try:
            if place in self.gates:
                self.waiting.add(place)
                await self._wait(self.gates[place])
            self._raise_prepared(place)
        except BaseException:
            await to_the_end(self._give_back(place, writer, store))
            raise
        store.wipe()
        store.commit(changelog.rows)
        partition = self._partition(place, changelog, store)
        logs: dict[Role, LogSink] = {}
        if self._archive:
            logs[Role.ARCHIVE] = self.sinks[place] = FakeSink(partition.logs[Role.ARCHIVE].next_offset)
        return Opened(partition, writer, store, logs, {})

    async def _wait(self, gate: asyncio.Event) -> None:
        try:
            await gate.wait()
        except asyncio.CancelledError:
            if not self.deaf:
                raise
            await gate.wait()

    def _raise_prepared(self, place: Place) -> None:
        if self.errors.get(place):
            raise self.errors[place].pop(0)

    async def _give_back(self, place: Place, writer: FakeWriter, store: RocksStore) -> None:
        if self.release_gate is not None:
            await self.release_gate.wait()
        await asyncio.to_thread(store.close)
        self.waiting.discard(place)
        await writer.close()

    def _partition(self, place: Place, changelog: FakeLog, store: RocksStore) -> Partition:
        folds = [
            TableFold.resume(spec, changelog.state(spec.name) or first_progress(TOPIC, spec, STATE_ID, 0, []), None)
            for spec in self._specs
        ]
        archive = changelog.archive() or FollowerProgress(state_id=STATE_ID, start=0, next_offset=0)
        logs = [Followed.resume(Role.ARCHIVE, archive)] if self._archive else []
        return Partition(TOPIC, place.partition, store, STATE_ID, folds, logs)
