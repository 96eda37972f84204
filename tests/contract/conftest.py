"""The stores the archive's contracts are run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.archive.path import random_token
from tests.contract.archive_support import Store


@pytest.fixture(params=["file", "hdfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty folder on each kind of file system."""
    if request.param == "file":
        return Store(f"file://{tmp_path}/archive")
    return Store(f"{request.getfixturevalue('hdfs_url')}/{random_token()}")


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}/archive")
