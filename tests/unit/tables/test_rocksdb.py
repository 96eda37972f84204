"""The store is a cache: damage costs a restore, never a wrong answer."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from domain.errors import DiskError, RefusedError
from tables.rocksdb import Position, RocksSettings, RocksStore, StoreClosedError
from tests.waiting import wait_for

ROOT = Path(__file__).parents[3]
ROWS = [(b"\x01c%05d" % number, b"%d" % number) for number in range(2_000)]


def opened(path: Path) -> RocksStore:
    return RocksStore(path / "clicks-0", RocksSettings())


def test_rows_and_position_come_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([*ROWS, (ROWS[3][0], None)], Position("state", 7))
    store.close()
    store = opened(tmp_path)
    assert store.position() == Position("state", 7)
    assert list(store.scan(b"\x01c")) == [row for row in ROWS if row != ROWS[3]]
    assert list(store.scan(b"\x01c", ROWS[1_990][0])) == ROWS[1_990:]
    assert store.get_many([ROWS[3][0], ROWS[4][0]]) == [None, ROWS[4][1]]
    store.close()


def test_a_directory_held_by_somebody_else_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(RefusedError, match="another process holds it"):
        opened(tmp_path)
    store.close()


def test_a_lock_that_can_not_be_opened_is_the_disks_fault_not_another_workers(tmp_path: Path) -> None:
    (tmp_path / "clicks-0" / "LOCK").mkdir(parents=True)
    with pytest.raises(DiskError, match="LOCK: Is a directory"):
        opened(tmp_path)


def test_reads_of_a_closed_store_say_so(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(ROWS)
    assert list(store.scan(b"\x01c")) == ROWS
    store.close()
    with pytest.raises(StoreClosedError):
        store.get(ROWS[0][0])
    with pytest.raises(StoreClosedError):
        next(store.scan(b"\x01c"))


def files_with_rows(path: Path) -> list[Path]:
    """Table files of a store whose rows were moved out of its log."""
    store = opened(path)
    store.commit(ROWS, Position("state", 7))
    store._db.flush()
    store.close()
    return sorted((path / "clicks-0").glob("*.sst"))


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.97])
def test_a_damaged_file_is_an_error_and_then_an_empty_store(tmp_path: Path, where: float) -> None:
    (table,) = files_with_rows(tmp_path)
    content = bytearray(table.read_bytes())
    at = int(len(content) * where)
    content[at : at + 16] = bytes(byte ^ 0xFF for byte in content[at : at + 16])
    table.write_bytes(content)
    store = opened(tmp_path)
    found = None
    try:
        found = list(store.scan(b"\x01c"))
    except Exception as err:  # noqa: BLE001 - the binding has no other
        assert "Corruption" in str(err)  # noqa: PT017 - damage may also have been found by opening
    assert found in (None, [], ROWS), "never some of the rows"
    store.close()
    if found is None:
        store = opened(tmp_path)
        assert store.position() is None
        assert list(store.scan(b"\x01c")) == []
        store.close()


def at_rest(store: RocksStore) -> bool:
    names = ("rocksdb.compaction-pending", "rocksdb.num-running-compactions", "rocksdb.num-running-flushes")
    return not any(store._db.property_int_value(name) for name in names)


def lives(path: Path, count: int) -> Path:
    """A directory after so many kills: its rows are spread over as many files."""
    for life in range(count):
        store = opened(path)
        store.commit([(b"\x01c%05d" % life, b"%d" % life)], Position("state", life))
        wait_for("compactions to end", partial(at_rest, store))  # a copy isn't as of one moment
        shutil.copytree(path / "clicks-0", path / "dead")
        store.close()
        shutil.rmtree(path / "clicks-0")
        (path / "dead").rename(path / "clicks-0")
    return path / "clicks-0"


def kept(path: Path) -> int | None:
    """How many rows a store has, which must be the first so many; None if it starts afresh."""
    store = opened(path)
    position, rows = store.position(), list(store.scan(b"\x01c"))
    store.close()
    assert [value for _, value in rows] == [b"%d" % one for one in range(len(rows))], "none is missing in between"
    assert len(rows) == (0 if position is None else position.offset + 1)
    return None if position is None else len(rows)


def test_an_opening_has_its_own_options_not_those_of_the_last_one(tmp_path: Path) -> None:
    """Above all no compaction before the files that were there have been looked at."""
    for _ in range(3):
        opened(tmp_path).close()
        log = (tmp_path / "clicks-0" / "LOG").read_text()
        assert re.findall(r"Options.disable_auto_compactions: (\d)", log) == ["1"]


def test_a_killed_store_has_all_its_rows(tmp_path: Path) -> None:
    lives(tmp_path, 7)
    assert kept(tmp_path) == 7


def test_a_list_of_files_that_lost_its_end_is_not_believed(tmp_path: Path) -> None:
    """Its newest rows may be there all the same, and the position with them."""
    (manifest,) = lives(tmp_path / "whole", 3).glob("MANIFEST-*")
    found = set()
    for size in range(0, manifest.stat().st_size, 3):
        shutil.copytree(tmp_path / "whole", tmp_path / str(size))
        os.truncate(tmp_path / str(size) / "clicks-0" / manifest.name, size)
        found.add(kept(tmp_path / str(size)))
    assert None in found
    assert found <= {None, 3}


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*", "*.sst", "*.log"])
@pytest.mark.parametrize("how", ["gone", "empty", "half"])
def test_a_damaged_directory_is_a_whole_one_or_none(tmp_path: Path, name: str, how: str) -> None:
    path = max(lives(tmp_path, 3).glob(name))
    if how == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2 if how == "half" else 0)
    assert kept(tmp_path) in {None, 2, 3}
    assert kept(tmp_path) in {None, 2, 3}


def test_what_a_death_left_of_a_file_that_was_being_written_is_no_damage(tmp_path: Path) -> None:
    folder = lives(tmp_path, 3)
    tables = sorted(folder.glob("*.sst"))
    (folder / "000999.sst").write_bytes(tables[-1].read_bytes()[:-100])
    assert kept(tmp_path) == 3


def test_files_that_are_listed_no_more_are_no_damage(tmp_path: Path) -> None:
    """Readers keep the inputs of a compaction for a while; a death leaves them."""
    folder = lives(tmp_path, 3)
    tables = sorted(folder.glob("*.sst"))
    (folder / "000001.sst").write_bytes(tables[0].read_bytes())
    assert kept(tmp_path) == 3


def test_a_condemned_directory_starts_afresh(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit(ROWS, Position("state", 7))
    store.condemn()
    assert store.position() == Position("state", 7), "until then it is as it was"
    store.close()
    assert kept(tmp_path) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from tables.rocksdb import Position, RocksSettings, RocksStore
store = RocksStore(Path(sys.argv[1]), RocksSettings())
store.load([(b"\\x01a", b"1"), (b"\\x01b", b"2")])
store.load([(b"\\x01a", None)])
store.commit([], Position("state", 7))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_position_never_outlives_the_rows_loaded_before_it(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "clicks-0")], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    store = opened(tmp_path)
    assert store.position() == Position("state", 7)
    assert list(store.scan(b"\x01")) == [(b"\x01b", b"2")]
    store.close()


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """To RocksDB it is a disk that takes no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_an_error_that_names_the_folder_and_no_commit_is_torn(tmp_path: Path) -> None:
    store = opened(tmp_path)
    committed = 0

    def fill() -> None:
        nonlocal committed
        for number in range(100):
            both = [(b"\x01c%02d-%d" % (number, part), b"x" * 1500) for part in range(2)]
            store.commit(both, Position("state", number))
            committed += 1

    with files_no_larger_than(100_000):
        with pytest.raises(DiskError, match=rf"{store.path}: IO error: .*File too large"):
            fill()
        store.close()
    assert committed > 10
    store = opened(tmp_path)
    assert store.position() == Position("state", committed - 1)
    assert len(list(store.scan(b"\x01c"))) == 2 * committed
    store.close()


def test_a_disk_that_takes_no_new_store_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with files_no_larger_than(100), pytest.raises(DiskError, match=r"clicks-0: .*File too large"):
        opened(tmp_path)
    opened(tmp_path).close()
