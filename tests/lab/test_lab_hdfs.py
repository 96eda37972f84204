from __future__ import annotations

import pytest
from hdfs_native import Client

from lab import Hdfs
from lab.errors import NotReadyError
from lab.hdfs import probe_files
from tests.kafka import unique


def write(hdfs: Hdfs, content: bytes) -> str:
    path = f"/{unique('lab')}"
    with Client(hdfs.url, config=hdfs.client_config).create(path) as writer:
        writer.write(content)
    return path


def read(hdfs: Hdfs, path: str) -> bytes:
    with Client(hdfs.url, config=hdfs.client_config).read(path) as reader:
        content: bytes = reader.read()
    return content


def test_a_file_written_is_read_back(own_hdfs: Hdfs) -> None:
    path = write(own_hdfs, b"content")
    assert read(own_hdfs, path) == b"content"


def test_files_survive_the_death_of_both_servers(own_hdfs: Hdfs) -> None:
    path, url = write(own_hdfs, b"content"), own_hdfs.url
    own_hdfs.namenode.kill()
    own_hdfs.datanode.kill()
    with pytest.raises(NotReadyError, match="nothing listens"):
        probe_files(url)
    own_hdfs.namenode.start(wait=False)
    own_hdfs.datanode.start()
    assert own_hdfs.url == url
    assert read(own_hdfs, path) == b"content"


def test_a_paused_namenode_is_not_ready_and_a_resumed_one_is(own_hdfs: Hdfs) -> None:
    own_hdfs.namenode.pause()
    with pytest.raises(NotReadyError, match="did not answer"):
        probe_files(own_hdfs.url)
    own_hdfs.namenode.resume()
    own_hdfs.namenode.wait_ready()
