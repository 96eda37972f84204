"""What every fault finds: the scene under load, its workers, the servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab import Lab
from tests.e2e.driver import Driver
from tests.e2e.scene import Scene
from tests.soak.fleet import Fleet
from tests.soak.journal import Entry, Journal
from tests.waiting import POLL_S

LOAD_S = 60.0


@dataclass
class Ground:
    scene: Scene
    lab: Lab
    driver: Driver
    fleet: Fleet
    journal: Journal
    kafka: threading.Lock = field(default_factory=threading.Lock)
    thrift: threading.Lock = field(default_factory=threading.Lock)
    # One at a time: HBase that loses its disks while it starts is nothing of ours.
    storage: threading.Lock = field(default_factory=threading.Lock)


Play = Callable[[Ground, Entry], None]


def happens(ask: Callable[[], object], within_s: float) -> bool:
    """Whether it does; a fault that doesn't come about is no failure."""
    give_up = time.monotonic() + within_s
    while not ask():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True
