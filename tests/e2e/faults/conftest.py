"""Three brokers, for the modules that harm them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.e2e.faults.cluster import BROKERS, CONFIG, Cluster
from tests.e2e.scene import Scene, on_its_own_topic

MakeReplicated = Callable[[int], Scene]


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    with Lab() as lab:
        yield Cluster(lab.kafka(BROKERS, CONFIG))


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """All brokers serve, whatever the test before left."""
    running_cluster.heal()
    return running_cluster


@pytest.fixture
def replicated_scene(cluster: Cluster, tmp_path: Path) -> Iterator[MakeReplicated]:
    """Set up a scene with so many partitions, each on all three brokers; its workers end with the test."""
    made: list[Scene] = []

    def make(partitions: int) -> Scene:
        made.append(on_its_own_topic(cluster.bootstrap, tmp_path, partitions, BROKERS))
        return made[-1]

    yield make
    for scene in made:
        scene.close()
