"""Servers and topics for every suite: each starts when a test first asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from lab import Lab
from tests.kafka import MakeTopic, create_topic, run_apart, unique

# How long an example takes says more about the machine than about the code.
settings.register_profile("recount", deadline=None)
settings.load_profile("recount")
SERVERS = {"kafka": "LAB_KAFKA", "hdfs": "LAB_HDFS", "hbase": "LAB_HBASE"}
"""Environment: addresses of servers that outlive the session, for many sessions on one lab."""
KAFKA_CONFIG = {"broker.session.timeout.ms": "60000"}  # paused by one test, it must not be fenced for the next one


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One lab for the session; stops its servers when the session ends, or dies."""
    with Lab() as running:
        yield running


def _lab(request: pytest.FixtureRequest) -> Lab:
    lab: Lab = request.getfixturevalue("lab")
    return lab


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    return os.environ.get(SERVERS["kafka"]) or _lab(request).kafka(config=KAFKA_CONFIG).bootstrap_servers


@pytest.fixture(scope="session")
def hdfs_url(request: pytest.FixtureRequest) -> str:
    return os.environ.get(SERVERS["hdfs"]) or _lab(request).hdfs().url


@pytest.fixture(scope="session")
def hbase_thrift(request: pytest.FixtureRequest) -> str:
    """host:port of an HBase Thrift1 server."""
    return os.environ.get(SERVERS["hbase"]) or _lab(request).hbase().address


@pytest.fixture(scope="session")
def redis_url(lab: Lab) -> str:
    return lab.redis().address


@pytest.fixture(scope="session")
def make_topic(kafka_bootstrap: str) -> MakeTopic:
    """Make topics under names nobody has used."""

    def make(partitions: int = 1, name: str = "", **configs: str) -> str:
        name = name or unique("topic")
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        run_apart(create_topic(kafka_bootstrap, name, partitions, settings))
        return name

    return make


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty folder for a worker's data."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
