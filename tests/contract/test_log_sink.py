"""The `LogSink` contract of the archive, on local disks and on HDFS."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from domain.errors import FencedError, SinkUnavailableError
from sinks.archive.archive import Archive, PartitionArchive
from sinks.archive.path import open_folder
from sinks.archive.reader import list_parts, read_lines
from sinks.archive.recovery import Recovered
from sinks.archive.verify import verify_partition
from tests.contract.archive_support import (
    T0,
    TOPIC,
    WINDOW_MS,
    Store,
    batch,
    child,
    ids_of,
    recover_all,
    tell,
    told,
    wait_until,
)

NASTY: list[bytes | None] = [
    None, b"", b"\n", b"\t", b"\r", b"\\", b"\\N", b"\\n", b"\\\\", b"\x00", b"\xff\xfe\x80", "ünï".encode(),
    b"a\tb\nc\rd\\e", b"\r\n\r\n", b" ", b"N", b"\\\n\\", b"x" * 5_000_000, b"\n" * 100_000,
]  # fmt: skip


def ended(sink: PartitionArchive, archive: Archive) -> None:
    sink.close()
    assert archive.close(30)


def test_key_and_value_come_back_byte_for_byte(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    keys = NASTY + list(reversed(NASTY))
    values = list(reversed(NASTY)) + NASTY
    sink.write(batch(0, [T0] * len(keys), keys, values))
    sink.write(batch(len(keys), [T0], [b"plain"], [b"plain"]))
    assert sink.sync(None) == len(keys) + 1
    ended(sink, archive)
    lines = list(read_lines(store.fs, store.root, TOPIC))
    assert [line.offset for line in lines] == list(range(len(keys) + 1))
    assert [line.key for line in lines] == [*keys, b"plain"]
    assert [line.value for line in lines] == [*values, b"plain"]
    assert [line.timestamp for line in lines] == [T0 + offset for offset in range(len(keys) + 1)]


def test_each_window_has_its_folder_and_the_malformed_lie_apart(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS, None, T0 + 1, T0 + WINDOW_MS - 1]))
    sink.sync(T0 + 100 * WINDOW_MS)
    ended(sink, archive)
    recover_all(archive)
    found = {(part.slot.folder, part.first, part.last) for part, _ in list_parts(store.fs, store.root, TOPIC)}
    assert found == {
        ("dt=2026-11-23/hm=1800", 0, 4),
        ("dt=2026-11-23/hm=1805", 1, 1),
        ("malformed/dt=2026-11-23", 2, 2),
    }


def test_a_window_is_one_file_over_many_syncs_and_committed_at_its_end(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    for start in range(0, 40, 10):
        sink.write(batch(start, [T0 + start] * 10))
        assert sink.sync(T0) == start + 10
    assert len(store.open_names()) == 1
    sink.sync(T0 + WINDOW_MS)
    wait_until(lambda: store.committed_names() != [], "the commit of a closed window")
    assert store.open_names() == []
    assert [name.split(".")[0] for name in store.committed_names()] == [f"{TOPIC}+0+{0:019d}+{39:019d}"]
    ended(sink, archive)


def test_records_late_for_a_committed_window_share_a_file_until_it_is_idle(store: Store) -> None:
    now = [T0]
    archive = store.archive(lambda: now[0], idle_commit_ms=1000)
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0]))
    sink.sync(T0 + WINDOW_MS)
    for start in (1, 2, 3):
        sink.write(batch(start, [T0]))
        sink.sync(T0 + WINDOW_MS + start)
    assert len(store.open_names()) <= 2
    now[0] += 1000
    sink.sync(T0 + 2 * WINDOW_MS)
    ended(sink, archive)
    assert len(store.committed_names()) == 2
    assert store.ids() == ids_of(range(4))


def test_a_full_file_is_committed_and_another_begun(store: Store) -> None:
    archive = store.archive(roll_bytes=100)
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    for start in range(0, 30, 10):
        sink.write(batch(start, [T0] * 10))
        sink.sync(None)
    ended(sink, archive)
    assert len(store.committed_names()) == 3
    assert store.ids() == ids_of(range(30))
    assert verify_partition(store.fs, store.root, TOPIC, 0).problems == []


def test_more_windows_than_open_files_are_reopened_by_append(store: Store) -> None:
    archive = store.archive(max_open_files=2)
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    times = [T0 + window * WINDOW_MS for window in range(5)]
    for start in (0, 5, 10):
        sink.write(batch(start, times))
        assert sink.sync(None) == start + 5
        assert sink._files.open_count <= 2 + archive.background._jobs.qsize() + 5
    ended(sink, archive)
    assert len(store.open_names()) == 5
    recover_all(archive)
    assert len(store.committed_names()) == 5
    counts = Counter(line.id for line in read_lines(store.fs, store.root, TOPIC))
    assert counts == dict.fromkeys(ids_of(range(15)), 1)
    assert verify_partition(store.fs, store.root, TOPIC, 0).problems == []


def test_a_batch_written_again_changes_nothing(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    for written in (batch(0, [T0] * 5), batch(0, [T0] * 5), batch(3, [T0] * 4), batch(2, [T0] * 2)):
        sink.write(written)
    assert sink.sync(None) == 7
    with pytest.raises(ValueError, match="leaves a hole"):
        sink.write(batch(9, [T0]))
    ended(sink, archive)
    counts = Counter(line.id for line in read_lines(store.fs, store.root, TOPIC))
    assert counts == dict.fromkeys(ids_of(range(7)), 1)


def test_the_next_owner_may_write_the_same_batches_again(store: Store) -> None:
    for start in (0, 3):
        archive = store.archive()
        sink = archive.partition(TOPIC, 0, start, WINDOW_MS)
        sink.write(batch(start, [T0 + offset for offset in range(start, 10)]))
        sink.sync(None)
        ended(sink, archive)
    recover_all(archive)
    assert store.ids() == ids_of(range(10))
    verified = verify_partition(store.fs, store.root, TOPIC, 0)
    assert (verified.start, verified.next_offset, verified.lines, verified.problems) == (0, 10, 10, [])


def test_progress_passes_offsets_without_records(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 5, WINDOW_MS)
    assert sink.sync(None) == 5
    empty = batch(5, [])
    object.__setattr__(empty.batch, "end", 9)
    sink.write(empty)
    assert sink.sync(None) == 9
    ended(sink, archive)
    verified = verify_partition(store.fs, store.root, TOPIC, 0)
    assert (verified.start, verified.next_offset, verified.lines, verified.problems) == (5, 9, 0, [])


def test_kill_9_loses_nothing_below_the_progress_told(store: Store) -> None:
    archive = store.archive()
    with child("archive", store) as process:
        progress = int(told(process))
        tell(process, "more")
        progress = int(told(process))
        process.kill()
        process.wait()
    recover_all(archive)
    assert store.open_names() == []
    assert store.ids() >= ids_of(range(progress))
    verified = verify_partition(store.fs, store.root, TOPIC, 0)
    assert (verified.start, verified.next_offset, verified.problems) == (0, progress, [])
    assert archive.recover(TOPIC, 0) == Recovered()


def test_what_was_synced_outlives_an_abort(store: Store) -> None:
    archive = store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS]))
    assert sink.sync(None) == 2
    sink.write(batch(2, [T0]))
    sink.abort()
    recover_all(archive)
    assert store.ids() >= ids_of(range(2))
    verified = verify_partition(store.fs, store.root, TOPIC, 0)
    assert (verified.start, verified.next_offset, verified.problems) == (0, 2, [])


def test_a_zombie_whose_files_were_recovered_loses_nothing_and_learns_of_it(store: Store) -> None:
    archive = store.archive()
    with child("archive", store) as process:
        progress = int(told(process))
        if store.is_hdfs:
            recover_all(archive)
            tell(process, "more")
            assert told(process) == "fenced"
        else:  # a live local writer keeps its leases: its files wait, renamed under its hands
            assert not archive.recover(TOPIC, 0, deadline_s=0).complete
            tell(process, "more")
            progress = int(told(process))
    recover_all(archive)
    assert store.ids() >= ids_of(range(progress))
    assert verify_partition(store.fs, store.root, TOPIC, 0).problems == []


def test_a_reopened_file_that_was_claimed_fences_its_writer(store: Store) -> None:
    archive = store.archive(max_open_files=1)
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0, T0 + WINDOW_MS]))
    sink.sync(None)
    other = store.archive()
    wait_until(lambda: len(other.recover(TOPIC, 0, deadline_s=0).committed) > 0, "one of two files is free")
    sink.write(batch(2, [T0]))
    with pytest.raises(FencedError):
        sink.sync(None)
    sink.abort()
    recover_all(other)
    assert store.ids() >= ids_of(range(2))


def test_recovery_leaves_live_attempts_alone(store: Store) -> None:
    archive, other = store.archive(), store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0]))
    sink.sync(None)
    names = store.open_names()
    assert archive.recover(TOPIC, 0, deadline_s=1.0) == Recovered()
    assert other.recover(TOPIC, 0, {sink.attempt}, deadline_s=1.0) == Recovered()
    assert store.open_names() == names
    sink.abort()
    recover_all(archive)
    assert store.open_names() == []


def tear(store: Store, name: str, content: bytes) -> None:
    handle = store.fs.create(f"{open_folder(store.root, TOPIC, 0)}/{name}")
    handle.write(content)
    handle.sync()
    handle.abort()
    wait_until(lambda: store.fs.recover_lease(f"{open_folder(store.root, TOPIC, 0)}/{name}"), "a free lease")


ATTEMPT = "00112233445566aa"


def open_name(first: int, attempt: str = ATTEMPT) -> str:
    return f"{attempt}+{T0:015d}+{first:019d}.log"


def line(offset: int, value: bytes = b"v") -> bytes:
    return b"%s-0-%d\t%d\tk\t%s\n" % (TOPIC.encode(), offset, T0, value)


def test_torn_files_are_copied_and_kept_and_empty_ones_deleted(store: Store) -> None:
    whole = line(7) + line(8, b"x" * 200_000)
    tear(store, open_name(7), whole + line(9)[:-3])
    tear(store, open_name(20), line(20)[:-1])
    tear(store, open_name(30), b"")
    done = store.archive().recover(TOPIC, 0)
    assert done.complete
    assert (len(done.committed), len(done.torn), len(done.deleted)) == (1, 2, 1)
    assert done.committed[0].endswith(f"/dt=2026-11-23/hm=1800/{TOPIC}+0+{7:019d}+{8:019d}.{ATTEMPT}.log")
    assert store.fs.read(done.committed[0]) == whole
    torn = {store.fs.read(path) for path in done.torn}
    assert torn == {whole + line(9)[:-3], line(20)[:-1]}
    assert store.open_names() == []


@pytest.mark.parametrize("copied", [line(7), line(7) + line(8)[:5]], ids=["a line", "a line and a half"])
def test_of_a_copy_half_made_nothing_is_published(store: Store, copied: bytes) -> None:
    torn = line(7) + line(8) + line(9)[:-3]
    tear(store, open_name(7), torn)
    tear(store, open_name(7).replace(".log", f"+{'1' * 16}.copy"), copied)
    done = store.archive().recover(TOPIC, 0)
    assert done.complete
    assert {store.fs.read(path) for path in done.torn} == {torn, copied}
    assert [store.fs.read(path) for path in done.committed] == [line(7) + line(8)]


def test_a_file_with_a_damaged_last_line_is_left_and_named(store: Store) -> None:
    tear(store, open_name(1), b"nonsense\n")
    tear(store, open_name(2), line(2))
    done = store.archive().recover(TOPIC, 0)
    assert len(done.conflicts) == 1
    assert len(done.committed) == 1
    assert len(store.open_names()) == 1


def test_two_recoverers_at_once_lose_nothing_and_make_nothing_twice(store: Store) -> None:
    files = 2 if store.is_hdfs else 40
    for n in range(files):
        torn = line(10 * n + 1)[:-2] if n % 2 else b""
        tear(store, open_name(10 * n, f"{n:016x}"), line(10 * n) + torn)
    archives = [store.archive(), store.archive()]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def recover(archive: Archive) -> None:
        barrier.wait()
        try:
            recover_all(archive)
        except BaseException as error:  # noqa: BLE001 - shown by the assert below
            failures.append(error)

    threads = [threading.Thread(target=recover, args=(archive,)) for archive in archives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.fs.list(open_folder(store.root, TOPIC, 0)) == []
    counts = Counter(found.offset for found in read_lines(store.fs, store.root, TOPIC))
    assert counts == dict.fromkeys(range(0, 10 * files, 10), 1)


def test_a_store_that_is_down_raises_and_loses_nothing(local_store: Store) -> None:
    archive = local_store.archive()
    sink = archive.partition(TOPIC, 0, 0, WINDOW_MS)
    sink.write(batch(0, [T0]))
    local_store.fs.mkdirs(local_store.root)
    in_the_way = local_store.fs.create(local_store.path(TOPIC))
    in_the_way.close()
    for _ in range(3):
        with pytest.raises(SinkUnavailableError):
            sink.sync(None)
    local_store.fs.delete(local_store.path(TOPIC))
    assert sink.sync(None) == 1
    ended(sink, archive)
    assert local_store.ids() == ids_of(range(1))
