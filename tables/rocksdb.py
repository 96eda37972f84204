"""A partition's rows in RocksDB: a cache of its changelog. Losing it costs time only."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rocksdict import AccessType, BlockBasedOptions, Cache, DbClosedError, Options, Rdict, WriteBatch

from domain.errors import RefusedError
from domain.rows import Row

LOCAL = b"\x00position"  # never in the changelog: sorts before every versioned row
WRITE_BUFFER_BYTES = 16 << 20
CORRUPTION = "Corruption"
DAMAGED = "DAMAGED"  # a file in the directory of a store that was found corrupt while open


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


@dataclass(frozen=True, slots=True)
class RocksSettings:
    block_cache_bytes: int = 32 << 20


class RocksStore:
    """Rows of one partition. Reads may come from any thread; writes come one at a time.

    Opening a directory that another process holds raises `RefusedError`; a damaged one is emptied. Closing waits for
    calls under way (the binding would refuse to close, and the directory stay locked); later ones raise
    `StoreClosedError`, a KeyError.
    """

    def __init__(self, path: Path, settings: RocksSettings) -> None:
        self._path = path
        self._settings = settings
        self._idle = threading.Condition()
        self._calls = 0
        self._closed = False
        self._db = self._open()

    def _open(self) -> Rdict:
        if (self._path / DAMAGED).exists():
            shutil.rmtree(self._path)
        self._path.mkdir(parents=True, exist_ok=True)
        try:
            return Rdict(str(self._path), self._options(), access_type=AccessType.read_write())
        except Exception as err:  # the binding raises bare Exception for everything
            reason = str(err)
            if CORRUPTION not in reason and ("LOCK:" in reason or "lock hold by" in reason):
                raise RefusedError(
                    f"state directory {self._path}",
                    "another process holds it: two workers share one instance name and data_dir",
                    "give each worker on this host its own app.instance",
                ) from err
            if CORRUPTION not in reason and "Invalid argument" not in reason:
                raise
        shutil.rmtree(self._path)
        self._path.mkdir(parents=True)
        return Rdict(str(self._path), self._options(), access_type=AccessType.read_write())

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        table = BlockBasedOptions()
        table.set_block_cache(Cache(self._settings.block_cache_bytes))
        table.set_bloom_filter(10, block_based=False)
        options.set_block_based_table_factory(table)
        return options

    @contextmanager
    def _in_use(self) -> Iterator[Rdict]:
        with self._idle:
            if self._closed:
                raise StoreClosedError(str(self._path))
            self._calls += 1
        try:
            yield self._db
        except Exception as err:
            if CORRUPTION in str(err):  # found while open: the next opening starts afresh
                (self._path / DAMAGED).touch()
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
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if position is not None:
            batch.put(LOCAL, msgspec.json.encode(position))
        with self._in_use() as db:
            db.write(batch)

    def scan(self, prefix: bytes, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key begins with `prefix`, ascending, from `start` on; as of the first one's reading.

        Read it to its end or drop it: `close` waits for the row being read, which is then the last.
        """
        with self._in_use() as db:
            rows = db.snapshot().iter()
            rows.seek(prefix if start is None else start)
            while rows.valid() and (key := rows.key()).startswith(prefix):
                if self._closed:
                    raise StoreClosedError(str(self._path))
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
        shutil.rmtree(self._path)
        self._db = self._open()
        self._closed = False

    def close(self) -> None:
        """Safe to repeat."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._calls)
        try:
            self._db.close()
        except DbClosedError:
            return
