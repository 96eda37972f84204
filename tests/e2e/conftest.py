"""Scenes for the scenarios, on local files or on HDFS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.scene import Scene, add_hbase, set_up
from tests.kafka import MakeTopic, unique

MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(
    request: pytest.FixtureRequest, kafka_bootstrap: str, make_topic: MakeTopic, tmp_path: Path
) -> Iterator[MakeScene]:
    """Set up a scene; its workers end with the test."""
    made: list[Scene] = []

    def make(archive: str = "file", partitions: int = 4, *, hbase: bool = False, backlog: int = 1_000_000) -> Scene:
        topic = make_topic(partitions, unique("clicks"), max_message_bytes=str(12 << 20))
        url = f"file://{tmp_path}/archive" if archive == "file" else f"{request.getfixturevalue('hdfs_url')}/{topic}"
        made.append(set_up(kafka_bootstrap, topic, partitions, tmp_path, url))
        if hbase:
            add_hbase(made[-1], request.getfixturevalue("hbase_thrift"), backlog)
        return made[-1]

    yield make
    for scene in made:
        scene.close()
