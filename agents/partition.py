"""One partition's owner: decides, folds and cuts. Everything here is synchronous; others do the I/O it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from msgspec import structs

from domain.decode import Decoder
from domain.errors import RefusedError
from domain.fold import Ahead, Dirty, Standing, fold
from domain.position import Step, step
from domain.probe import Point, Probe, no_probe
from domain.progress import Cut, FollowerProgress, StateProgress, Witness, encode, record_crc, seek_position
from domain.record import Batch, TimedBatch
from domain.rows import Role, Row, progress_key
from domain.spec import TableSpec, TopicSpec, fingerprint
from domain.window import Cuts, closed_until, expired_until, known_after
from tables.cells import Settling, TableRows, dirty_size, encode_table, known_ids
from tables.expiry import Due
from tables.finals import Closing
from tables.rocksdb import RocksStore

MAX_RECORDS = 50_000  # tombstones in one transaction: more would make it slow


@dataclass(slots=True)
class TableFold:
    """One table in one partition: what is committed of it, what is in flight and what is dirty."""

    spec: TableSpec
    committed: StateProgress
    standing: Standing
    cuts: list[Cut]
    ahead: Ahead | None = None
    dirty: Dirty = field(default_factory=dict)
    in_flight: Dirty = field(default_factory=dict)
    rows_from: int = 0  # no window that starts before has cells or event ids
    finals_reached: bytes = b""  # where the finals to send next begin
    unsettled: bool = False  # finals or tombstones wait for the next checkpoint, whether anything moves or not

    @classmethod
    def resume(cls, spec: TableSpec, progress: StateProgress, ahead: Ahead | None) -> TableFold:
        standing = Standing(progress.next_offset, progress.stream_time, dict(progress.tallies))
        return cls(spec, progress, standing, list(progress.cuts), ahead)

    @property
    def catching_up(self) -> bool:
        """Whether stored rows still speak of more than has been folded: commit and answer nothing yet."""
        return self.ahead is not None and self.standing.next_offset <= self.ahead.until


@dataclass(frozen=True, slots=True)
class TableCut:
    """A table's share of a checkpoint: its dirty set and the progress that goes with it."""

    table: TableFold
    dirty: Dirty
    progress: StateProgress
    passed: int  # every follower has what is below
    cuts: Cuts
    new_cuts: Cuts
    closing: Closing | None  # None: no finals are sent

    def settling(self, max_records: int) -> Settling:
        time, due = self.progress.stream_time, None
        if time is not None:
            due = Due(self.table.rows_from, expired_until(self.table.spec, time), self.passed, max_records)
        closing = None if self.closing is None else replace(self.closing, limit=max_records)
        return Settling(self.cuts, self.new_cuts, closing, due)


@dataclass(slots=True)
class Followed:
    """How far a follower got: committed, and durable in its sink."""

    role: Role
    committed: FollowerProgress
    durable: FollowerProgress
    table: str = ""

    @classmethod
    def resume(cls, role: Role, progress: FollowerProgress, table: str = "") -> Followed:
        return cls(role, progress, progress, table)

    @property
    def next_offset(self) -> int:
        return self.durable.next_offset

    def reached(self, next_offset: int) -> None:
        self.durable = structs.replace(self.durable, next_offset=max(self.durable.next_offset, next_offset))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A checkpoint's rows in commit order: what progress speaks for first, progress last; and apart by table."""

    rows: list[Row]
    tables: Mapping[str, TableRows]
    finals: Mapping[str, Sequence[Row]]  # by topic; committed with the rows


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A cut between two batches. Rows are encoded later, off the loop; the dirty sets don't change any more."""

    tables: Sequence[TableCut]
    followers: Sequence[tuple[Followed, FollowerProgress]]

    def cells(self) -> int:
        """Of the dirty sets, event ids too."""
        return sum(dirty_size(cut.dirty) for cut in self.tables)

    def encode(self, store: RocksStore, max_records: int = MAX_RECORDS) -> Encoded:
        """At most `max_records` finals and tombstones; what else is due goes with the next one."""
        by_table: dict[str, TableRows] = {}
        for cut in self.tables:
            name = cut.table.spec.name
            one = by_table[name] = encode_table(store, name, cut.dirty, cut.settling(max_records))
            cut.progress.cursors |= one.finals.cursors
            max_records -= len(one.finals.records) + len(one.dropped.tombstones)
        found: list[Row] = []
        for one in by_table.values():
            found += one.rows
        found += self.progress_rows()
        return Encoded(found, by_table, self._finals(by_table))

    def _finals(self, by_table: Mapping[str, TableRows]) -> dict[str, list[Row]]:
        """By topic, which several tables may share."""
        finals: dict[str, list[Row]] = {}
        for cut in self.tables:
            topic, records = cut.table.spec.finals_topic, by_table[cut.table.spec.name].finals.records
            if topic is not None and records:
                finals.setdefault(topic, []).extend(records)
        return finals

    def progress_rows(self) -> list[Row]:
        found: list[Row] = [(progress_key(one.role, one.table), encode(progress)) for one, progress in self.followers]
        found += [(progress_key(Role.STATE, cut.table.spec.name), encode(cut.progress)) for cut in self.tables]
        return found


class Partition:
    """The owner of one source partition, from restore to loss.

    `next_offset` is the position the next batch must start at.
    """

    def __init__(
        self,
        topic: TopicSpec,
        partition: int,
        store: RocksStore,
        state_id: str,
        tables: Sequence[TableFold],
        logs: Sequence[Followed] = (),
        counts: Sequence[Followed] = (),
        probe: Probe = no_probe,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.store = store
        self.state_id = state_id
        self.tables = tables
        self.logs = {one.role: one for one in logs}
        self.counts = {one.table: one for one in counts}
        starts = [table.standing.next_offset for table in tables]
        self.next_offset = seek_position([*starts, *(one.next_offset for one in logs)])
        self.checkpoints = 0
        self.settled = self.ready
        """Whether the store's rows say what its progress rows say: not while some of a torn transaction are ahead."""
        self._decoder = Decoder(topic, [table.spec for table in tables])
        self._last_batch: Batch | None = None
        self._half_folded = False
        self._probe = probe
        for table in tables:  # the owner before may have died between a window's close and its finals
            closing = self._closing(table)
            table.unsettled = closing is not None and closing.due

    @property
    def name(self) -> str:
        return f"{self.topic.name}-{self.partition}"

    @property
    def ready(self) -> bool:
        """Whether committed values may be answered and new ones committed."""
        return not any(table.catching_up for table in self.tables)

    def decide(self, batch: Batch) -> Step:
        """Where a batch stands in the chain."""
        return step(batch.start, self.next_offset)

    def fold(self, batch: Batch) -> TimedBatch:
        """Fold a batch that continues the chain into every table. If it raises, nothing may be cut any more."""
        self._half_folded = True
        decoded = self._decoder.decode(batch)
        for table in self.tables:
            known = partial(known_ids, self.store, table.spec.name, table.in_flight)
            fold(table.spec, decoded, table.standing, table.dirty, known, table.ahead)
            if table.ahead is not None and not table.catching_up:
                table.ahead = None
            if len(batch) and any(one.after_ms is None for one in table.cuts):
                table.cuts = _seen_after(table.cuts, batch)
            self._probe(Point.TABLE_FOLDED)
        self.next_offset = batch.end
        if len(batch):
            self._last_batch = batch
        self._half_folded = False
        return decoded.timed()

    def dirty_cells(self) -> int:
        return sum(dirty_size(table.dirty) for table in self.tables)

    def cut(self) -> Checkpoint | None:
        """Swap the dirty sets out, with all progress as of now. None when nothing moved or nothing may be committed."""
        if not self.ready or self._half_folded:
            return None
        followers = [(one, one.durable) for one in self._followed() if one.durable != one.committed]
        moved = any(t.standing.next_offset != t.committed.next_offset or t.dirty or t.unsettled for t in self.tables)
        if not followers and not moved:
            return None
        cuts = []
        for table in self.tables:
            dirty, table.dirty = table.dirty, {}
            table.in_flight = dirty
            cuts.append(self._cut(table, dirty, self._progress(table)))
        return Checkpoint(cuts, followers)

    def first_cut(self) -> Checkpoint:
        """Of a partition just assigned: the progress rows alone."""
        followers = [(one, one.committed) for one in self._followed()]
        return Checkpoint([self._cut(table, {}, table.committed) for table in self.tables], followers)

    def committed(self, checkpoint: Checkpoint, encoded: Encoded) -> None:
        """The checkpoint is durable and in the store."""
        for cut in checkpoint.tables:
            cut.table.committed = cut.progress
            cut.table.in_flight = {}
            rows = encoded.tables[cut.table.spec.name]
            cut.table.rows_from = rows.dropped.rows_from
            cut.table.finals_reached = rows.finals.reached
            closing = self._closing(cut.table)
            cut.table.unsettled = rows.dropped.more or (closing is not None and closing.due)
        for one, progress in checkpoint.followers:
            one.committed = progress
        self.settled = True
        self.checkpoints += 1

    def group_offset(self) -> int:
        """What lag tools may see: counted and committed by every table."""
        tables = [table.committed.next_offset for table in self.tables]
        return seek_position(tables or [one.committed.next_offset for one in self.logs.values()])

    def committed_of(self, role: Role) -> int | None:
        """Next offset of a log follower; None where there is none."""
        one = self.logs.get(role)
        return None if one is None else one.committed.next_offset

    def _followed(self) -> list[Followed]:
        return [*self.logs.values(), *self.counts.values()]

    def _cut(self, table: TableFold, dirty: Dirty, progress: StateProgress) -> TableCut:
        window_ms = table.spec.window_ms
        new = [one for one in progress.cuts if one not in table.committed.cuts]
        return TableCut(
            table,
            dirty,
            progress,
            self._passed(table),
            Cuts(self.topic, window_ms, progress.cuts),
            Cuts(self.topic, window_ms, new),
            self._closing(table),
        )

    def _closing(self, table: TableFold) -> Closing | None:
        """As of the last checkpoint: what it counted on time in a window closed by then is in the store, and all."""
        spec, committed = table.spec, table.committed
        if spec.finals_topic is None or committed.stream_time is None:
            return None
        until = closed_until(spec, committed.stream_time)
        cursors, reached = committed.cursors, table.finals_reached
        return Closing(spec.name, self.partition, spec.window_ms, until, cursors, MAX_RECORDS, reached)

    def _passed(self, table: TableFold) -> int:
        """Every follower has what is below this; with the cut, progress says so too."""
        following = [*self.logs.values(), *(one for one in self.counts.values() if one.table == table.spec.name)]
        return min((one.next_offset for one in following), default=table.standing.next_offset)

    def _progress(self, table: TableFold) -> StateProgress:
        old, standing = table.committed, table.standing
        return StateProgress(
            state_id=old.state_id,
            fingerprint=old.fingerprint,
            start=old.start,
            next_offset=standing.next_offset,
            stream_time=standing.stream_time,
            witness=self._witness(old.witness),
            cuts=table.cuts,
            tallies=dict(standing.tallies),
            cursors=dict(old.cursors),
        )

    def _witness(self, old: Witness | None) -> Witness | None:
        batch = self._last_batch
        if batch is None or (old is not None and old.offset > batch.offsets[-1]):
            return old
        crc = record_crc(batch.keys[-1], batch.values[-1])
        return Witness(int(batch.offsets[-1]), int(batch.timestamps[-1]), crc)


def _seen_after(cuts: list[Cut], batch: Batch) -> list[Cut]:
    """Cuts, with the time of the first record after each if the batch has it."""
    for offset, timestamp in zip(batch.offsets.tolist(), batch.timestamps.tolist(), strict=True):
        cuts = known_after(cuts, offset, timestamp)
        if all(one.after_ms is not None for one in cuts):
            break
    return cuts


def first_progress(topic: TopicSpec, spec: TableSpec, state_id: str, start: int, cuts: Iterable[Cut]) -> StateProgress:
    """Of a table that has no progress yet."""
    return StateProgress(
        state_id=state_id, fingerprint=fingerprint(topic, spec), start=start, next_offset=start, cuts=list(cuts)
    )


def gap(name: str, next_offset: int, begin: int, what: str = "counted") -> RefusedError:
    lost = f"{name}:{next_offset}-{begin - 1}"
    return RefusedError(
        f"gap in {name}",
        f"records {next_offset} to {begin - 1} were deleted from the topic before they were {what}",
        f"To go on without them: recount worker --accept-gap {lost}",
    )
