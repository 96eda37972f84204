"""What is counted: topics and tables as plain values. Every input of the counting function is here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum

FOLD_VERSION = 1
"""Bumped whenever any record could be classed or keyed otherwise."""

KEY_BYTES_MAX = 4096
NESTING_MAX = 64
INT_DIGITS_MAX = 4300
TIME_MIN_MS = 0
TIME_END_MS = 253_402_300_800_000  # 10000-01-01, exclusive

Scalar = str | int | float | bool


class TimeFormat(StrEnum):
    EPOCH_MS = "epoch_ms"
    EPOCH_S = "epoch_s"
    ISO8601 = "iso8601"
    KAFKA = "kafka"


class KeyType(StrEnum):
    STRING = "string"
    INT = "int"
    BOOL = "bool"


@dataclass(frozen=True, slots=True)
class EventTime:
    """Where the event time stands; `field` is a dotted name, empty for the Kafka timestamp."""

    format: TimeFormat
    field: str = ""


@dataclass(frozen=True, slots=True)
class KeyField:
    """One part of a cell's key; `field` is a dotted name, None for the Kafka key as UTF-8 text."""

    field: str | None
    type: KeyType = KeyType.STRING


@dataclass(frozen=True, slots=True)
class WhereRule:
    """Passes when the field equals one of `allowed` (same type) and its presence is `exists`; None asks nothing."""

    field: str
    allowed: tuple[Scalar, ...] | None = None
    exists: bool | None = None


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    event_time: EventTime
    format: str = "json"
    archive_window_ms: int = 300_000
    max_future_ms: int = 600_000
    max_past_ms: int = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class TableSpec:
    name: str
    topic: str
    key: tuple[KeyField, ...]
    where: tuple[WhereRule, ...] = ()
    window_ms: int = 300_000
    grace_ms: int = 600_000
    retention_ms: int = 86_400_000
    dedup: str | None = None
    start_ms: int | None = None  # None: earliest
    finals_topic: str | None = None  # not an input of the function


def changelog_topic(app: str, topic: str) -> str:
    """The topic that holds the state of one source topic's tables."""
    return f"{app}-{topic}-changelog"


def fingerprint(topic: TopicSpec, table: TableSpec) -> str:
    """16 hex digits over every input of the function for one table: equal means comparable counts."""
    inputs = {
        "topic": topic.name,
        "format": topic.format,
        "event_time": asdict(topic.event_time),
        "max_future": topic.max_future_ms,
        "max_past": topic.max_past_ms,
        "key": [asdict(field) for field in table.key],
        "where": [
            [r.field, None if r.allowed is None else [[type(v).__name__, v] for v in r.allowed], r.exists]
            for r in table.where
        ],
        "window": table.window_ms,
        "grace": table.grace_ms,
        "retention": table.retention_ms,
        "dedup": table.dedup,
        "start": table.start_ms,
        "fold_version": FOLD_VERSION,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
