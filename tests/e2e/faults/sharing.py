"""Who counts which partitions, and waiting until they agree."""

from __future__ import annotations

import math
import urllib.error
from collections.abc import Sequence

from tests.e2e.test_kill import owned
from tests.e2e.workers import Worker, get
from tests.waiting import wait_for


def ready(worker: Worker) -> bool:
    try:
        return bool(get(worker.url, "/readyz")["status"] == "ready")
    except urllib.error.HTTPError:
        return False


def wait_shared(workers: Sequence[Worker], partitions: int, deadline_s: float = 90.0) -> list[dict[int, int]]:
    """Until every worker is ready, and each partition is counted by one; none has more than its share, rounded up.

    Returns how far each of them has committed what it counts.
    """
    most = math.ceil(partitions / len(workers))
    shares: list[dict[int, int]] = []

    def shared() -> bool:
        for worker in workers:
            assert worker.running, f"{worker.name} ended:\n{worker.log()[-3000:]}"
        shares[:] = [owned(worker) for worker in workers]
        together = [partition for one in shares for partition in one]
        fair = all(len(one) <= most for one in shares)
        return sorted(together) == list(range(partitions)) and fair and all(map(ready, workers))

    names = ", ".join(worker.name for worker in workers)
    wait_for(f"{names} to share {partitions} partitions", shared, deadline_s)
    return shares
