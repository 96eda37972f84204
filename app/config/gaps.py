"""A gap in a source log that the operator accepts: these records will never be counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from app.config.model import Config
from domain.errors import ConfigError

OPTION = "--accept-gap"


@dataclass(frozen=True, slots=True)
class AcceptedGap:
    """Offsets `first` to `last`, both inclusive, of one partition."""

    topic: str
    partition: int
    first: int
    last: int


def parse_gaps(texts: Iterable[str], config: Config) -> tuple[AcceptedGap, ...]:
    """From `clicks-3:1000-1999`, one for a partition, for topics of the configuration. Raises `ConfigError`."""
    gaps: dict[tuple[str, int], AcceptedGap] = {}
    for text in texts:
        gap = _parse(text)
        known = [topic.name for topic in config.topics]
        if gap.topic not in known:
            raise ConfigError(OPTION, f'"{gap.topic}" is in no [[topics]]', f"known: {', '.join(known)}")
        if gaps.setdefault((gap.topic, gap.partition), gap) != gap:
            raise ConfigError(OPTION, f"two ranges for {gap.topic}-{gap.partition}", "accept one, then the other")
    return tuple(gaps.values())


def _parse(text: str) -> AcceptedGap:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)-([0-9]{1,9}):([0-9]{1,18})-([0-9]{1,18})", text)
    if match is None or int(match[3]) > int(match[4]):
        raise ConfigError(OPTION, f'got "{text}", wants topic-partition:first-last', "such as clicks-3:1000-1999")
    return AcceptedGap(match[1], int(match[2]), int(match[3]), int(match[4]))
