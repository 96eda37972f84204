"""The archive's promise with a failure at every single call, as owner and as recoverer."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from domain.errors import FencedError, SinkUnavailableError
from sinks.archive import archive as archive_module
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.archive.background import WORKERS
from sinks.archive.fs import FileStatus
from sinks.archive.local import LocalFileSystem, LocalHandle
from sinks.archive.path import open_folder
from sinks.archive.verify import verify_partition
from tests.contract.archive_support import T0, TOPIC, WINDOW_MS, Store, batch, ids_of, recover_all, wait_until
from tests.contract.faulty import Fault, FaultyFileSystem, InlineBackground

RETRIES = 5


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests cut calls, not power: what fsync adds can't be seen here. Nor do they wait for leases."""
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)
    monkeypatch.setattr(archive_module, "ORPHAN_DEADLINE_S", 0.0)


def faulty_archive(store: Store, fs: FaultyFileSystem) -> Archive:
    now = itertools.count(T0, 100)
    settings = ArchiveSettings(store.url, roll_bytes=400, idle_commit_ms=3000, max_open_files=2)
    archive = Archive(settings, lambda: next(now), file_system=fs)
    archive.background = archive.recoverers = InlineBackground()
    return archive


def work(archive: Archive) -> int:
    """Write six batches over four slots, retrying as a follower does; returns the progress reported."""
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    progress = 0
    try:
        for n in range(6):
            start = 4 * n
            sink.write(batch(start, [T0 + n * WINDOW_MS // 2, T0, None, T0 + (n + 1) * WINDOW_MS // 2]))
            for _ in range(RETRIES):
                try:
                    progress = sink.sync(T0 + (n - 1) * WINDOW_MS // 2)
                except SinkUnavailableError:
                    continue
                break
        progress = sink.close()
    except (SinkUnavailableError, FencedError):
        sink.abort()
    return progress


def check(store: Store, progress: int) -> None:
    recover_all(store.archive())
    assert store.fs.list(open_folder(store.root, TOPIC, 0)) == []
    assert store.ids() >= ids_of(range(progress))
    verified = verify_partition(store.fs, store.root, TOPIC, 0)
    assert verified.problems == []
    assert verified.next_offset >= progress


def count_calls(path: Path) -> int:
    store = Store(f"file://{path}/dry")
    fs = FaultyFileSystem(LocalFileSystem())
    assert work(faulty_archive(store, fs)) == 24
    check(store, 24)
    assert store.ids() == ids_of(range(24))
    return fs.calls


@pytest.mark.parametrize(
    ("dead", "forgets"),
    [(False, False), (True, False), (True, True)],
    ids=["one call fails", "the process dies", "and takes what was not synced"],
)
@pytest.mark.parametrize("fault", list(Fault))
def test_progress_is_covered_whichever_call_fails(tmp_path: Path, fault: Fault, dead: bool, forgets: bool) -> None:
    for at in range(count_calls(tmp_path)):
        store = Store(f"file://{tmp_path}/{at}")
        fs = FaultyFileSystem(LocalFileSystem(), at, fault, dead=dead, forgets=forgets)
        progress = work(faulty_archive(store, fs))
        fs.release()
        if not dead:
            assert progress == 24, f"call {at} failed once and work stopped"
        check(store, progress)


def crashed(store: Store) -> None:
    """Leave behind a dead owner's folder: whole, torn, empty files and half a copy."""
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS, None, T0 + 2 * WINDOW_MS]))
    assert sink.sync(None) == 4
    sink.abort()
    folder = open_folder(store.root, TOPIC, 0)
    names = [status.name for status in store.fs.list(folder)]
    for name in names[:2]:
        handle = store.fs.append(f"{folder}/{name}")
        handle.write(b"clicks-0-17\t5\tk")
        handle.close()
    for name, content in (
        ("0" * 16 + f"+{T0:015d}+{9:019d}.log", b""),
        (names[0][:-4] + "+" + "1" * 16 + ".copy", b"cl"),
    ):
        handle = store.fs.create(f"{folder}/{name}")
        handle.write(content)
        handle.close()


@pytest.mark.parametrize("fault", list(Fault))
def test_recovery_may_die_at_any_call(tmp_path: Path, fault: Fault) -> None:
    dry = Store(f"file://{tmp_path}/dry")
    crashed(dry)
    fs = FaultyFileSystem(LocalFileSystem())
    assert faulty_archive(dry, fs).recover(TOPIC, 0).complete
    for at in range(fs.calls):
        store = Store(f"file://{tmp_path}/{at}")
        crashed(store)
        failing = FaultyFileSystem(LocalFileSystem(), at, fault, dead=True)
        with suppress(SinkUnavailableError):
            assert faulty_archive(store, failing).recover(TOPIC, 0, deadline_s=0.0).error is not None
        failing.release()
        assert store.ids() == ids_of(range(4)), f"after a death at call {at}, before the next recovery"
        check(store, 4)
        assert store.ids() == ids_of(range(4))


class OneStuck(LocalFileSystem):
    """One file's lease can't be asked about, or the file not be looked at."""

    def __init__(self, start: int, call: str) -> None:
        super().__init__()
        self._stuck = f"+{start:015d}+"
        self._call = call

    def recover_lease(self, path: str) -> bool:
        self._answer("recover_lease", path)
        return super().recover_lease(path)

    def status(self, path: str) -> FileStatus | None:
        self._answer("status", path)
        return super().status(path)

    def _answer(self, call: str, path: str) -> None:
        if call == self._call and self._stuck in path:
            raise SinkUnavailableError("archive", f"{path}: stuck")


@pytest.mark.parametrize("call", ["recover_lease", "status"])
def test_a_file_that_gives_no_answer_keeps_no_other_waiting(tmp_path: Path, call: str) -> None:
    store = Store(f"file://{tmp_path}")
    sink = store.archive().partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS, None, T0 + 2 * WINDOW_MS]))
    sink.sync(None)
    sink.abort()
    stuck = Archive(ArchiveSettings(store.url), lambda: T0, file_system=OneStuck(T0, call))
    done = stuck.recover(TOPIC, 0, deadline_s=1.0)
    assert "stuck" in str(done.error)
    assert not done.complete
    (left,) = store.open_names()
    assert f"+{T0:015d}+" in left
    assert len(store.committed_names()) == 3
    check(store, 4)


def test_files_given_up_are_recovered_though_every_close_hangs(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    first_sync = 4  # after two files were created and written
    archive = Archive(
        ArchiveSettings(store.url), lambda: T0, file_system=FaultyFileSystem(LocalFileSystem(), first_sync)
    )
    hung = threading.Event()

    def hang() -> None:
        hung.wait()

    for _ in range(WORKERS):
        assert archive.background.try_submit(hang) is not None
    try:
        sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
        sink.write(batch(0, [T0, T0 + WINDOW_MS]))
        with pytest.raises(SinkUnavailableError):
            sink.sync(None)

        def recovered() -> bool:
            sink.sync(None)
            return len(store.committed_names()) > 0

        wait_until(recovered, "the file given up to be committed")
    finally:
        hung.set()
        archive.close(5.0)


class FullFileSystem(LocalFileSystem):
    """Files can be made, but take nothing while it is full."""

    def __init__(self) -> None:
        self.full = False

    def create(self, path: str) -> LocalHandle:
        return FullHandle(self, super().create(path))


class FullHandle(LocalHandle):
    def __init__(self, fs: FullFileSystem, made: LocalHandle) -> None:
        self.__dict__.update(made.__dict__)
        self._fs = fs

    def write(self, data: bytes) -> None:
        if self._fs.full:
            raise SinkUnavailableError("archive", "No space left on device")
        super().write(data)


def test_a_full_disk_does_not_get_more_files_with_every_try(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/store")
    fs = FullFileSystem()
    archive = Archive(ArchiveSettings(store.url), lambda: T0, file_system=fs)
    archive.background = archive.recoverers = InlineBackground()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS]))
    assert sink.sync(None) == 2
    fs.full = True
    sink.write(batch(2, [T0, T0 + WINDOW_MS, T0 + 2 * WINDOW_MS]))
    for _ in range(20):
        with pytest.raises(SinkUnavailableError, match="No space left"):
            sink.sync(None)
    assert len(store.open_names()) <= 3, "those of the last try"
    fs.full = False
    assert sink.sync(None) == 5
    assert sink.close() == 5
    check(store, 5)
