"""What the HDFS client's answers mean."""

from __future__ import annotations

from types import SimpleNamespace

from sinks.archive.hdfs import HdfsFileSystem


def test_a_file_whose_last_block_is_not_reported_yet_is_not_free() -> None:
    fs = HdfsFileSystem("hdfs://127.0.0.1:1", {})

    def being_created(_path: str) -> bool:
        raise FileExistsError("Committed blocks are waiting to be minimally replicated. Try again later.")

    fs._client = SimpleNamespace(recover_lease=being_created)  # type: ignore[assignment]
    assert fs.recover_lease("/recount/a.log") is False
