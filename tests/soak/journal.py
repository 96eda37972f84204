"""The journal: a line for every fault, with its time, the seed, and whether it tested anything."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak.schedule import KILLS, PAUSES, Fault, Move


@dataclass
class Entry:
    """One fault while it goes on."""

    act: int
    number: int
    move: Move
    target: str = ""
    happened: bool = False
    in_hand: bool = True  # what it may have spoiled was there
    load_ran: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return self.happened and self.in_hand and self.load_ran


class Journal:
    """Lines of JSON. Thread safe."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.seed = seed
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._done: Counter[Fault] = Counter()
        self._valid: Counter[Fault] = Counter()
        self.restarts = 0  # of workers that ended for a reason we gave

    def write(self, what: str, **facts: Any) -> None:
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        line = {"time": clock, "s": round(time.monotonic() - self._began, 2), "seed": self.seed, "what": what, **facts}
        with self._lock, self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def begin(self, entry: Entry) -> None:
        self.write("begun", act=entry.act, number=entry.number, target=entry.target, **dataclasses.asdict(entry.move))

    def end(self, entry: Entry) -> None:
        with self._lock:
            self._done[entry.move.fault] += 1
            self._valid[entry.move.fault] += entry.valid
        self.write(
            "ended",
            act=entry.act,
            number=entry.number,
            fault=entry.move.fault,
            target=entry.target,
            valid=entry.valid,
            happened=entry.happened,
            in_hand=entry.in_hand,
            load_ran=entry.load_ran,
            notes=entry.notes,
        )

    def counts(self) -> dict[str, str]:
        """Valid ones of all, by kind."""
        groups = {
            "kills": KILLS,
            "pauses": PAUSES,
            "outages": {fault for fault in Fault if fault.value.startswith(SERVERS)},
        }
        groups["others"] = set(Fault) - set().union(*groups.values())
        return {
            name: f"{sum(self._valid[one] for one in group)} of {sum(self._done[one] for one in group)}"
            for name, group in groups.items()
        }

    def table(self) -> str:
        return ", ".join(f"{one} {self._valid[one]}/{self._done[one]}" for one in Fault if self._done[one])


SERVERS = ("kafka", "thrift", "namenode", "datanode", "hbase")
