"""What the demo killed with -9, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.cli_options import Victim
from domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Killed:
    """Something that was killed and came back, and how far counting went on meanwhile."""

    victim: Victim
    name: str
    pid: int
    down_s: float
    counted_meanwhile: int  # records, committed; of a worker: of the partitions it owned
    restarted: tuple[str, ...] = ()  # servers that ended because of it and were started again

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "down_s": round(self.down_s, 1),
            "counted_meanwhile": self.counted_meanwhile,
            "restarted": list(self.restarted),
        }


def refuse_absent(victim: Victim, *, embedded: bool) -> None:
    """Raises `ConfigError` for a server that an embedded demo doesn't have."""
    if embedded and victim is not Victim.WORKER:
        raise ConfigError("--kill", f"there is no {victim} with --embedded", "leave --embedded out, or kill a worker")
