"""One partition's owner: decides, folds and cuts. Everything here is synchronous; others do the I/O it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from domain.decode import Decoder
from domain.errors import RefusedError
from domain.fold import Ahead, Dirty, Standing, fold
from domain.position import Step, step
from domain.progress import Cut, FollowerProgress, StateProgress, Witness, encode, record_crc, seek_position
from domain.record import Batch, TimedBatch
from domain.rows import Role, Row, progress_key
from domain.spec import TableSpec, TopicSpec, fingerprint
from tables.cells import dirty_size, encode_dirty, known_ids
from tables.rocksdb import RocksStore


@dataclass(slots=True)
class TableFold:
    """One table in one partition: what is committed of it, what is in flight and what is dirty."""

    spec: TableSpec
    committed: StateProgress
    standing: Standing
    ahead: Ahead | None = None
    dirty: Dirty = field(default_factory=dict)
    in_flight: Dirty = field(default_factory=dict)

    @classmethod
    def resume(cls, spec: TableSpec, progress: StateProgress, ahead: Ahead | None) -> TableFold:
        standing = Standing(progress.next_offset, progress.stream_time, dict(progress.tallies))
        return cls(spec, progress, standing, ahead)

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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A cut between two batches. Rows are encoded later, off the loop; the dirty sets don't change any more."""

    tables: Sequence[TableCut]
    archive: FollowerProgress | None

    def rows(self, store: RocksStore) -> list[Row]:
        """All rows in commit order: what progress speaks for first, progress last."""
        found: list[Row] = []
        for cut in self.tables:
            found += encode_dirty(store, cut.table.spec.name, cut.dirty)
        if self.archive is not None:
            found.append((progress_key(Role.ARCHIVE), encode(self.archive)))
        for cut in self.tables:
            found.append((progress_key(Role.STATE, cut.table.spec.name), encode(cut.progress)))
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
        tables: Sequence[TableFold],
        archive: FollowerProgress | None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.store = store
        self.tables = tables
        self.archive = archive  # committed
        self.archive_durable = archive.next_offset if archive is not None else 0
        starts = [table.standing.next_offset for table in tables]
        self.next_offset = seek_position([*starts, archive.next_offset] if archive is not None else starts)
        self.checkpoints = 0
        self._decoder = Decoder(topic, [table.spec for table in tables])
        self._last_batch: Batch | None = None
        self._half_folded = False

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
        archive = self._archive_progress()
        moved = [t for t in self.tables if t.standing.next_offset != t.committed.next_offset or t.dirty]
        if archive is None and not moved:
            return None
        cuts = []
        for table in self.tables:
            dirty, table.dirty = table.dirty, {}
            table.in_flight = dirty
            cuts.append(TableCut(table, dirty, self._progress(table)))
        return Checkpoint(cuts, archive)

    def first_cut(self) -> Checkpoint:
        """Of a partition just assigned: the progress rows alone."""
        return Checkpoint([TableCut(t, {}, t.committed) for t in self.tables], self.archive)

    def committed(self, checkpoint: Checkpoint) -> None:
        """The checkpoint is durable and in the store."""
        for cut in checkpoint.tables:
            cut.table.committed = cut.progress
            cut.table.in_flight = {}
        if checkpoint.archive is not None:
            self.archive = checkpoint.archive
        self.checkpoints += 1

    def group_offset(self) -> int:
        """What lag tools may see: counted and committed by every table."""
        return seek_position(table.committed.next_offset for table in self.tables)

    def _archive_progress(self) -> FollowerProgress | None:
        if self.archive is None or self.archive.next_offset == self.archive_durable:
            return None
        old = self.archive
        return FollowerProgress(state_id=old.state_id, start=old.start, next_offset=self.archive_durable)

    def _progress(self, table: TableFold) -> StateProgress:
        old, standing = table.committed, table.standing
        return StateProgress(
            state_id=old.state_id,
            fingerprint=old.fingerprint,
            start=old.start,
            next_offset=standing.next_offset,
            stream_time=standing.stream_time,
            witness=self._witness(old.witness),
            cuts=old.cuts,
            tallies=dict(standing.tallies),
            cursors=old.cursors,
        )

    def _witness(self, old: Witness | None) -> Witness | None:
        batch = self._last_batch
        if batch is None or (old is not None and old.offset > batch.offsets[-1]):
            return old
        crc = record_crc(batch.keys[-1], batch.values[-1])
        return Witness(int(batch.offsets[-1]), int(batch.timestamps[-1]), crc)


def first_progress(topic: TopicSpec, spec: TableSpec, state_id: str, start: int, cuts: Iterable[Cut]) -> StateProgress:
    """Of a table that has no progress yet."""
    return StateProgress(
        state_id=state_id, fingerprint=fingerprint(topic, spec), start=start, next_offset=start, cuts=list(cuts)
    )


def gap(name: str, next_offset: int, begin: int) -> RefusedError:
    lost = f"{name}:{next_offset}-{begin - 1}"
    return RefusedError(
        f"gap in {name}",
        f"records {next_offset} to {begin - 1} were deleted from the topic before they were counted",
        f"To go on without them: recount worker --accept-gap {lost}",
    )
