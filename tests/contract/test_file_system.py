"""The `FileSystem` contract, on local disks and on HDFS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

from domain.errors import ConfigError, FencedError, SinkUnavailableError
from sinks.archive.fs import LeaseHeldError, exists, length, open_file_system
from sinks.archive.hdfs import HdfsFileSystem
from tests.contract.archive_support import Store, child, tell, told, wait_until


def put(store: Store, name: str, content: bytes) -> str:
    path = store.path(name)
    handle = store.fs.create(path)
    handle.write(content)
    handle.close()
    return path


def test_what_was_written_and_closed_is_read_back(store: Store) -> None:
    path = put(store, "a/b/file.log", b"0123456789")
    assert store.fs.read(path) == b"0123456789"
    assert store.fs.read(path, 3, 4) == b"3456"
    assert store.fs.read(path, 8, 100) == b"89"
    assert store.fs.read(path, 100, 1) == b""
    assert b"".join(store.fs.stream(path)) == b"0123456789"
    assert length(store.fs, path) == 10


def test_a_large_file_streams_in_pieces(store: Store) -> None:
    content = bytes(range(256)) * 12_000
    path = put(store, "large", content)
    pieces = list(store.fs.stream(path))
    assert len(pieces) > 1
    assert b"".join(pieces) == content


def test_create_is_exclusive(store: Store) -> None:
    path = put(store, "file.log", b"first")
    with pytest.raises(FileExistsError):
        store.fs.create(path)
    with pytest.raises(FileExistsError):
        store.another_client().create(path)
    assert store.fs.read(path) == b"first"


def test_append_keeps_what_is_there(store: Store) -> None:
    path = put(store, "file.log", b"one\n")
    for text in (b"two\n", b"three\n"):
        handle = store.fs.append(path)
        handle.write(text)
        handle.close()
    assert store.fs.read(path) == b"one\ntwo\nthree\n"


def test_an_empty_file_has_length_zero(store: Store) -> None:
    path = put(store, "file.log", b"")
    assert length(store.fs, path) == 0
    assert store.fs.read(path) == b""
    assert list(store.fs.stream(path)) == []


def test_what_is_missing_is_told_apart(store: Store) -> None:
    missing = store.path("missing")
    calls: list[Callable[[], object]] = [
        lambda: store.fs.append(missing),
        lambda: store.fs.read(missing),
        lambda: store.fs.stream(missing),
        lambda: store.fs.recover_lease(missing),
        lambda: store.fs.rename(missing, store.path("other")),
        lambda: length(store.fs, missing),
    ]
    for call in calls:
        with pytest.raises(FileNotFoundError):
            call()
    assert store.fs.status(missing) is None
    assert not exists(store.fs, missing)
    assert store.fs.list(missing) == []
    assert store.fs.delete(missing) is False


def test_rename_makes_the_folder_and_never_overwrites(store: Store) -> None:
    one, two = put(store, "one", b"1"), put(store, "two", b"2")
    target = store.path("deep/er/target")
    store.fs.rename(one, target)
    assert not exists(store.fs, one)
    with pytest.raises(FileExistsError):
        store.fs.rename(two, target)
    assert store.fs.read(target) == b"1"
    assert store.fs.read(two) == b"2"


def race(calls: list[Callable[[], None]]) -> list[BaseException | None]:
    results: list[BaseException | None] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index: int) -> None:
        barrier.wait()
        try:
            calls[index]()
        except OSError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_several_who_rename_to_one_name_one_wins(store: Store) -> None:
    clients = [store.another_client() for _ in range(4)]
    paths = [put(store, f"racer-{n}", b"%d" % n) for n in range(4)]
    target = store.path("target")
    results = race(
        [lambda fs=fs, path=path: fs.rename(path, target) for fs, path in zip(clients, paths, strict=True)]  # type: ignore[misc]
    )
    winners = [n for n, error in enumerate(results) if error is None]
    assert len(winners) == 1
    assert store.fs.read(target) == b"%d" % winners[0]
    assert all(isinstance(error, FileExistsError) for error in results if error)
    assert all(exists(store.fs, path) for n, path in enumerate(paths) if n != winners[0])


def test_of_several_who_claim_one_file_one_wins(store: Store) -> None:
    clients = [store.another_client() for _ in range(4)]
    source = put(store, "source", b"content")
    results = race(
        [lambda fs=fs, n=n: fs.rename(source, store.path(f"claim-{n}")) for n, fs in enumerate(clients)]  # type: ignore[misc]
    )
    assert sum(error is None for error in results) == 1
    assert all(isinstance(error, FileNotFoundError) for error in results if error)
    assert len(store.fs.list(store.root)) == 1


def test_a_folder_lists_what_it_holds_by_name(store: Store) -> None:
    put(store, "folder/b", b"12")
    put(store, "folder/a", b"")
    put(store, "folder/sub/c", b"x")
    put(store, "folder/gone", b"x")
    assert store.fs.delete(store.path("folder/gone")) is True
    store.fs.mkdirs(store.path("folder/empty"))
    store.fs.mkdirs(store.path("folder/empty"))
    found = [
        (status.name, status.length if not status.is_dir else 0, status.is_dir)
        for status in store.fs.list(store.path("folder"))
    ]
    assert found == [("a", 0, False), ("b", 2, False), ("empty", 0, True), ("sub", 0, True)]


def test_names_may_hold_what_urls_may_not(store: Store) -> None:
    path = put(store, "dé ü/a+b%41 #?.log", b"x")
    assert [status.path for status in store.fs.list(store.path("dé ü"))] == [path]
    store.fs.rename(path, path + "~")
    assert store.fs.read(path + "~") == b"x"


def test_a_writer_holds_the_lease_until_it_closes(store: Store) -> None:
    path = store.path("file.log")
    handle = store.fs.create(path)
    handle.write(b"one\n")
    handle.sync()
    for fs in (store.fs, store.another_client()):
        with pytest.raises(LeaseHeldError):
            fs.append(path)
    handle.close()
    again = store.another_client().append(path)
    again.write(b"two\n")
    again.close()
    assert store.fs.read(path) == b"one\ntwo\n"


def test_a_closed_file_is_free_at_once(store: Store) -> None:
    assert store.fs.recover_lease(put(store, "file.log", b"x")) is True


def test_an_aborted_writer_lets_go_and_keeps_what_was_synced(store: Store) -> None:
    path = store.path("file.log")
    handle = store.fs.create(path)
    handle.write(b"one\n")
    handle.sync()
    handle.abort()
    handle.abort()
    wait_until(lambda: store.fs.recover_lease(path), "the lease of an aborted writer")
    assert store.fs.read(path).startswith(b"one\n")
    with pytest.raises(FencedError):
        handle.write(b"more")


def test_an_open_file_may_be_renamed_under_its_writer(store: Store) -> None:
    path, moved = store.path("file.log"), store.path("moved.log")
    handle = store.fs.create(path)
    handle.write(b"one\n")
    handle.sync()
    store.fs.rename(path, moved)
    handle.write(b"two\n")
    handle.sync()
    handle.close()
    assert store.fs.read(moved) == b"one\ntwo\n"


def test_after_kill_9_recovery_gets_every_synced_byte(store: Store) -> None:
    path = store.path("file.log")
    with child("file", store) as process:
        assert told(process) == "written"
        with pytest.raises(LeaseHeldError):
            store.fs.append(path)
        process.kill()
        process.wait()
    wait_until(lambda: store.fs.recover_lease(path), "the lease of a killed writer")
    content = store.fs.read(path)
    assert content.startswith(b"one\ntwo\n")
    assert b"one\ntwo\nthr".startswith(content)
    assert length(store.fs, path) == len(content)


def test_a_live_writer_is_cut_off_or_keeps_its_lease(store: Store) -> None:
    path = store.path("file.log")
    with child("file", store) as process:
        assert told(process) == "written"
        if store.is_hdfs:
            wait_until(lambda: store.fs.recover_lease(path), "the lease of a zombie")
        else:
            assert store.fs.recover_lease(path) is False
        tell(process, "go on")
        assert told(process) == ("refused" if store.is_hdfs else "synced")
    if store.is_hdfs:
        assert b"one\ntwo\nthr".startswith(store.fs.read(path))
        assert store.fs.read(path).startswith(b"one\ntwo\n")
    else:
        assert store.fs.recover_lease(path) is True
        assert store.fs.read(path) == b"one\ntwo\nthree\n"


def test_a_hung_name_node_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fs = HdfsFileSystem(f"hdfs://127.0.0.1:{silent.getsockname()[1]}", {}, deadline_s=0.2)
        with pytest.raises(SinkUnavailableError, match=r"no answer from HDFS within 0\.2 s"):
            fs.status("/x")


def test_a_name_node_that_is_down_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    fs = HdfsFileSystem(f"hdfs://127.0.0.1:{port}", {"dfs.client.failover.max.attempts": "1"})
    with pytest.raises(SinkUnavailableError, match="Connection refused"):
        fs.status("/x")


@pytest.mark.parametrize(
    "url", ["", "/plain/path", "file://", "file://relative/path", "hdfs:///no/host", "s3://bucket/x", "hdfs://h/p?q"]
)
def test_a_bad_url_names_the_setting(url: str) -> None:
    with pytest.raises(ConfigError) as raised:
        open_file_system(url)
    assert raised.value.setting == "sinks.archive.url"
