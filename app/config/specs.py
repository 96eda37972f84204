"""From settings to the plain values the counting function takes."""

from __future__ import annotations

from collections.abc import Iterator

from app.config.model import Config, TableSection, TopicSection, WhereSection
from domain.spec import EventTime, KeyField, TableSpec, TopicSpec, WhereRule


def to_specs(config: Config) -> tuple[tuple[TopicSpec, ...], tuple[TableSpec, ...]]:
    """The topics and tables of a configuration, in its order."""
    return tuple(map(_topic, config.topics)), tuple(map(_table, config.tables))


def _topic(topic: TopicSection) -> TopicSpec:
    return TopicSpec(
        name=topic.name,
        event_time=EventTime(format=topic.event_time.format, field=topic.event_time.field or ""),
        format=topic.format,
        archive_window_ms=topic.archive_window.ms,
        max_future_ms=topic.max_future.ms,
        max_past_ms=topic.max_past.ms,
    )


def _table(table: TableSection) -> TableSpec:
    return TableSpec(
        name=table.name,
        topic=table.topic,
        key=tuple(KeyField(part.field, part.type) for part in table.key),
        where=tuple(rule for section in table.where for rule in _rules(section)),
        window_ms=table.window.ms,
        grace_ms=table.grace.ms,
        retention_ms=table.retention.ms,
        dedup=None if table.dedup is None else table.dedup.field,
        start_ms=table.start,
        finals_topic=table.finals_topic,
    )


def _rules(section: WhereSection) -> Iterator[WhereRule]:
    # One rule per condition: the same question has the same fingerprint however it is grouped.
    if section.equals is not None:
        yield WhereRule(section.field, allowed=(section.equals,))
    if section.any_of is not None:
        yield WhereRule(section.field, allowed=section.any_of)
    if section.exists is not None:
        yield WhereRule(section.field, exists=section.exists)
