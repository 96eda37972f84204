"""A writer let go is never closed by the garbage collector: on the loop's thread that would hang the worker."""

from __future__ import annotations

import gc

import pytest

from lab import Hdfs
from sinks.archive.fs import LeaseHeldError
from sinks.archive.hdfs import HdfsFileSystem
from tests.kafka import unique
from tests.waiting import wait_for


def test_an_aborted_file_stays_open_until_recovery(hdfs_url: str) -> None:
    files = HdfsFileSystem(hdfs_url, Hdfs.client_config)
    path = f"/{unique('aborted')}"
    handle = files.create(path)
    handle.write(b"one\n")
    handle.sync()
    handle.abort()
    del handle
    gc.collect()
    with pytest.raises(LeaseHeldError):
        files.append(path)
    wait_for("the lease's recovery", lambda: files.recover_lease(path))
    assert files.read(path) == b"one\n"
