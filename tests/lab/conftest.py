"""A lab apart from the session's: these tests kill its servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Hbase, Hdfs, Kafka, Lab, Redis


@pytest.fixture(scope="package")
def own_lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.start("kafka", "hdfs")
        yield lab


@pytest.fixture
def own_kafka(own_lab: Lab) -> Iterator[Kafka]:
    """Kafka, serving; started again where a test left it down."""
    kafka = own_lab.kafka()
    yield kafka
    for broker in kafka.brokers:
        broker.resume() if broker.running else broker.start()


@pytest.fixture
def own_hdfs(own_lab: Lab) -> Iterator[Hdfs]:
    hdfs = own_lab.hdfs()
    yield hdfs
    for server in hdfs.servers:
        server.resume() if server.running else server.start()


@pytest.fixture
def own_hbase(own_lab: Lab) -> Iterator[Hbase]:
    hbase = own_lab.hbase()
    yield hbase
    for server in hbase.servers:
        server.resume() if server.running else server.start(wait=False)
    for server in hbase.servers:
        server.wait_ready()


@pytest.fixture
def own_redis(own_lab: Lab) -> Iterator[Redis]:
    redis = own_lab.redis()
    yield redis
    redis.server.resume() if redis.server.running else redis.server.start()
