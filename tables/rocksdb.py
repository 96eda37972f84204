"""A partition's rows in RocksDB: a cache of its changelog. Losing it costs time only."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DbClosedError,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from domain.errors import DiskError, RefusedError, TaintedError
from domain.rows import Row

LOCAL = b"\x00position"  # never in the changelog: sorts before every versioned row
AFTER = b"\x00"  # the least key after another is that key and this
WRITE_BUFFER_BYTES = 16 << 20
ARENA_BYTES = 128 << 10  # what a store takes at its first row: a worker may have a hundred of them
CORRUPTION = "Corruption"
DISK_SIGNS = ("IO error", "os error")  # of RocksDB, and of what its binding does beside it
DAMAGE = (CORRUPTION, "Invalid argument", "No such file")  # what is said of a damaged directory when it is opened
DAMAGED = "DAMAGED"  # a file in the directory of a store that was found damaged while open
HELD = ("While lock file:", "lock hold by")  # by another process, and by this one; not said where it can't be opened
WHOLE_TABLE = bytes.fromhex("f7cff485b741e288")  # how a table file ends that was written to its end


def _unlogged() -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = True
    return options


UNLOGGED = _unlogged()


class Position(msgspec.Struct, frozen=True):
    """Up to where the rows follow the changelog: the offset of the last row applied, and whose changelog it was."""

    state_id: str
    offset: int
    format: int = 1


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Rows, and one more row's value (None: there is none), as of one moment."""

    rows: list[tuple[bytes, bytes]]
    also: bytes | None


class StoreClosedError(KeyError):
    """The partition was given up: to readers it is gone."""


class StoreDamagedError(TaintedError):
    """Rows can't be read any more. The next opening starts afresh."""


class RocksSettings:
    """What stores share that are opened with it: one bound on their memory, however many they are.

    The cache holds blocks, indexes and filters, and rows not in files yet: those in up to half of it.
    """

    def __init__(self, cache_bytes: int = 64 << 20) -> None:
        self.cache = Cache(cache_bytes)
        self.write_buffers = WriteBufferManager.new_write_buffer_manager_with_cache(cache_bytes // 2, False, self.cache)


class RocksStore:
    """Rows of one partition. Reads may come from any thread; writes come one at a time.

    Opening a directory that another process holds raises `RefusedError`; a damaged one is emptied. Every call but
    `close` raises `DiskError` when the disk is full or fails: of a commit nothing or all is there at the next opening.
    Closing waits for calls under way (the binding would refuse to close, and the directory stay locked); later ones
    raise `StoreClosedError`, a KeyError.
    """

    def __init__(self, path: Path, settings: RocksSettings) -> None:
        self.path = path
        self._settings = settings
        self._idle = threading.Condition()
        self._calls = 0
        self._closed = False
        self._loaded = False
        self._db = self._open()

    def _open(self) -> Rdict:
        with self._disk_told():
            return self._open_or_empty()

    def _open_or_empty(self) -> Rdict:
        if (self.path / DAMAGED).exists():
            self._discard()
        self.path.mkdir(parents=True, exist_ok=True)
        before = _whole_tables(self.path)
        try:
            db = self._rdict()
        except Exception as err:  # the binding raises bare Exception for everything
            reason = str(err)
            if any(one in reason for one in HELD):
                raise RefusedError(
                    f"state directory {self.path}",
                    "another process holds it: two workers share one instance name and data_dir",
                    "give each worker on this host its own app.instance",
                ) from err
            if not any(one in reason for one in DAMAGE):
                raise
            db = None
        if db is not None and _lost(before, db):
            db.close()
            db = None
        if db is None:
            self._discard()
            self.path.mkdir(parents=True)
            db = self._rdict()
        db.set_options({"disable_auto_compactions": "false"})
        return db

    def _rdict(self) -> Rdict:
        for one in self.path.glob("OPTIONS-*"):  # of the last opening: the binding would heed them, not ours
            one.unlink()
        return Rdict(str(self.path), self._options(), access_type=AccessType.read_write())

    def _discard(self) -> None:
        """All files at once: half of them could pass for a directory."""
        gone = self.path.with_name(f"{self.path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        self.path.rename(gone)
        shutil.rmtree(gone)

    @contextmanager
    def _disk_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise DiskError(str(self.path), err.strerror or repr(err)) from err
        except Exception as err:
            if CORRUPTION not in str(err) and any(sign in str(err) for sign in DISK_SIGNS):
                raise DiskError(str(self.path), str(err)) from err
            raise

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.set_disable_auto_compactions(True)  # until the files that were there have been looked at
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        options.set_arena_block_size(ARENA_BYTES)
        options.set_write_buffer_manager(self._settings.write_buffers)
        table = BlockBasedOptions()
        table.set_block_cache(self._settings.cache)
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        table.set_bloom_filter(10, block_based=False)
        options.set_block_based_table_factory(table)
        return options

    @contextmanager
    def _in_use(self) -> Iterator[Rdict]:
        with self._idle:
            if self._closed:
                raise StoreClosedError(str(self.path))
            self._calls += 1
        try:
            with self._disk_told():
                yield self._db
        except Exception as err:
            if CORRUPTION in str(err):
                self.condemn()
                raise StoreDamagedError(f"{self.path}: {err}") from err
            raise
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    def position(self) -> Position | None:
        """None where there is nothing usable: restore from the start."""
        value = self.get(LOCAL)
        if value is None:
            return None
        try:
            return msgspec.json.decode(value, type=Position)
        except msgspec.MsgspecError:
            return None

    def get(self, key: bytes) -> bytes | None:
        with self._in_use() as db:
            value: bytes | None = db.get(key)
            return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._in_use() as db:
            values: list[bytes | None] = db[list(keys)] if keys else []
            return values

    def commit(self, rows: Iterable[Row], position: Position | None = None) -> None:
        """Apply rows in order, atomically, with the position they end at. None keeps the old position."""
        batch = _write_batch(rows)
        if position is not None:
            batch.put(LOCAL, msgspec.json.encode(position))
        with self._in_use() as db:
            if position is not None and self._loaded:
                db.flush()  # a position must not outlive rows it speaks for
                self._loaded = False
            db.write(batch)

    def load(self, rows: Iterable[Row]) -> None:
        """As `commit`, faster: until a position is committed the rows may be lost with the process."""
        batch = _write_batch(rows)
        with self._in_use() as db:
            self._loaded = True
            db.write(batch, UNLOGGED)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, ascending, from `start` on; as of the first one's reading.

        Read it to its end or drop it: `close` waits for the row being read, which is then the last.
        """
        with self._in_use() as db:
            rows = db.snapshot().iter()
            rows.seek(prefix if start is None else start)
            while rows.valid() and (key := rows.key()).startswith(prefix):
                if self._closed:
                    raise StoreClosedError(str(self.path))
                yield key, rows.value()
                rows.next()
            rows.status()  # raises if it ended at a damaged block, not at the end

    def read(self, prefix: bytes, start: bytes, limit: int, also: bytes) -> Glimpse:
        """Up to `limit` rows of a prefix from `start` on, ascending, and the value of the row `also`; as of one moment.

        It holds nothing when it returns: long scans made of these keep nobody from closing.
        """
        with self._in_use() as db:
            rows = db.snapshot().iter()
            rows.seek(also)
            value = rows.value() if rows.valid() and rows.key() == also else None
            rows.seek(start)
            found: list[tuple[bytes, bytes]] = []
            while len(found) < limit and rows.valid() and (key := rows.key()).startswith(prefix):
                found.append((key, rows.value()))
                rows.next()
            rows.status()
            return Glimpse(found, value)

    def keys(self, prefix: bytes, limit: int, start: bytes | None = None) -> list[bytes]:
        """Up to `limit` keys that begin with `prefix`, ascending, from `start` on."""
        with self._in_use() as db:
            rows = db.snapshot().iter()
            rows.seek(prefix if start is None else start)
            found: list[bytes] = []
            while len(found) < limit and rows.valid() and (key := rows.key()).startswith(prefix):
                found.append(key)
                rows.next()
            rows.status()
            return found

    def wipe(self) -> None:
        """Forget everything."""
        self.close()
        with self._disk_told():
            self._discard()
        self._loaded = False
        self._db = self._open()
        self._closed = False

    def condemn(self) -> None:
        """What is in the directory is wrong: the next opening starts afresh, also after a death. Idempotent."""
        with self._disk_told():
            (self.path / DAMAGED).touch()
            sync_directory(self.path)

    def close(self) -> None:
        """Safe to repeat."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._calls)
        try:
            with self._disk_told():
                self._db.close()
        except (DbClosedError, DiskError):  # closed all the same, and what it lacks is in the changelog
            return
        except Exception as err:  # it is closed all the same
            if CORRUPTION not in str(err):
                raise
            with suppress(DiskError):  # then it is found damaged once more
                self.condemn()


def _whole_tables(path: Path) -> set[int]:
    """Numbers of table files that were written to their end: a death may leave others, which nothing speaks of."""
    found = set()
    for one in path.glob("*.sst"):
        with one.open("rb") as file:
            file.seek(-min(len(WHOLE_TABLE), file.seek(0, os.SEEK_END)), os.SEEK_END)
            if file.read() == WHOLE_TABLE:
                found.add(int(one.stem))
    return found


def _lost(before: set[int], db: Rdict) -> bool:
    """Whether the store's list of files has lost its end: rows are missing from its middle, and nothing else tells.

    Then a table that was there is newer than all that are listed. So is what a death in the middle of a compaction
    leaves: that costs a restore.
    """
    listed = before & {int(Path(one["name"]).stem) for one in db.live_files()}
    return max(before - listed, default=-1) > max(listed, default=-1)


def sync_directory(path: Path) -> None:
    """Make new and renamed files in it survive."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_batch(rows: Iterable[Row]) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    put = batch.put
    for key, value in rows:
        if value is None:
            batch.delete(key)
        else:
            put(key, value)
    return batch
