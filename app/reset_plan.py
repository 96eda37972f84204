"""What a reset takes away: decided and put into words from what was found, without asking anybody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.source import Place
from app.config import Config
from domain.errors import ConfigError, RefusedError
from domain.spec import changelog_topic
from tables.reset import Holding

ELSEWHERE = "directories of other hosts and instances start over by themselves"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything of `tables` goes; of the whole topic with its archive and records too."""

    app: str
    topic: str
    tables: tuple[str, ...]
    whole: bool
    changelog: bool  # whether there is one
    holdings: Mapping[int, Holding]  # by partition
    offsets: Mapping[int, int]  # of the group, that must be forgotten
    hbase: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    archive: str | None = None  # the topic's folder, to be moved aside
    finals: tuple[str, ...] = ()  # topics that get the finals of these tables once more

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take away."""
        rows = self.changelog and (self.whole or any(set(self.tables) & set(h.tables) for h in self.holdings.values()))
        return not (rows or self.offsets or self.hbase or self.archive)


def topic_of(config: Config, table: str, topic: str | None) -> str | None:
    """Where a table is counted; None: the configuration doesn't name it."""
    at = next((one.topic for one in config.tables if one.name == table), None)
    if at is not None and topic is not None and at != topic:
        raise ConfigError("--topic", f'"{table}" counts "{at}"', "leave --topic out, or --table for the whole topic")
    return at or topic


def tables_of(config: Config, topic: str, holdings: Mapping[int, Holding]) -> tuple[str, ...]:
    """Every table of a topic, configured or only found, in the order of their names."""
    configured = {one.name for one in config.tables if one.topic == topic}
    return tuple(sorted(configured.union(*(one.tables for one in holdings.values()))))


def found_in(table: str, by_topic: Mapping[str, Mapping[int, Holding]]) -> str:
    """The topic whose changelog has rows of a table that isn't configured."""
    topics = [topic for topic, found in by_topic.items() if any(table in one.tables for one in found.values())]
    if len(topics) == 1:
        return topics[0]
    if topics:
        raise ConfigError("--table", f'"{table}" is in several topics', f"add --topic: {', '.join(topics)}")
    known = sorted({name for found in by_topic.values() for one in found.values() for name in one.tables})
    raise ConfigError(
        "--table",
        f'no [[tables]] names "{table}", and no changelog of the configured topics has rows of it',
        f"known: {', '.join(known) or 'none'}; if its topic isn't configured any more, name it with --topic",
    )


def refuse_unknown_topic(config: Config, topic: str, existing: Collection[str]) -> None:
    changelog = changelog_topic(config.app.id, topic)
    known = [one.name for one in config.topics]
    if topic not in known and changelog not in existing:
        raise ConfigError(
            "--topic", f'"{topic}" is in no [[topics]] and has no changelog {changelog}', f"known: {', '.join(known)}"
        )


def refuse_lost(
    config: Config, topic: str, table: str, holdings: Mapping[int, Holding], offsets: Mapping[int, int]
) -> None:
    """One table can't be reset where the state of all is gone: what is left of the others would pass for new."""
    others = [one.name for one in config.tables if one.topic == topic and one.name != table]
    lost = [p for p, offset in offsets.items() if offset and (p not in holdings or holdings[p].empty)]
    if others and lost:
        raise RefusedError(
            f"state of {Place(topic, lost[0])} is lost",
            f"its changelog holds nothing, neither of {table} nor of {', '.join(others)}",
            f"Restore the changelog topic; or count all of them from the start again: recount reset --topic {topic}",
        )


def offsets_going(
    tables: Collection[str], holdings: Mapping[int, Holding], offsets: Mapping[int, int], *, whole: bool
) -> dict[int, int]:
    """Where nothing is left a group offset would make what is new look like lost."""

    def bare(partition: int) -> bool:
        found = holdings.get(partition)
        return found is None or not (found.logs or found.tables.keys() - set(tables))

    return {p: offset for p, offset in sorted(offsets.items()) if offset and (whole or bare(p))}


def rows_of(plan: Plan) -> Iterator[tuple[str, str, str, str, str]]:
    """Partition, table, cells, windows and position, one line for each that has something."""
    for partition, found in sorted(plan.holdings.items()):
        for name in plan.tables:
            size = found.tables.get(name)
            if size is not None:
                got = "-" if size.progress is None else f"{size.progress.next_offset:,}"
                yield str(Place(plan.topic, partition)), name, f"{size.cells:,}", f"{size.windows:,}", got


def others_of(plan: Plan) -> Iterator[str]:
    """What goes beside the rows, a sentence each."""
    for name in plan.hbase:
        yield f"HBase table {name}: dropped"
    for folder in plan.folders:
        yield f"local state {folder}: removed ({ELSEWHERE})"
    if plan.archive is not None:
        yield f"archive {plan.archive}: moved aside to {plan.archive}.<time>, nothing of it is deleted"
    if plan.whole and plan.changelog:
        logs = sorted({role for one in plan.holdings.values() for role in one.logs})
        also = f", with the progress of {' and '.join(logs)}" if logs else ""
        yield f"changelog {changelog_topic(plan.app, plan.topic)}: deleted{also}"
    for name in plan.finals:
        yield f"finals topic {name}: stays, and gets every final of these windows again; empty it, or name another one"
    if plan.offsets:
        places = ", ".join(str(Place(plan.topic, p)) for p in plan.offsets)
        yield f"the group's offsets of {places}: set to 0"


def staying_of(plan: Plan) -> str:
    """What else the topic has."""
    found = {name for one in plan.holdings.values() for name in one.tables} - set(plan.tables)
    logs = {role for one in plan.holdings.values() for role in one.logs}
    kept = sorted(found) + [f"the {role}" for role in sorted(logs)]
    return "" if plan.whole or not kept else f"untouched: {', '.join(kept)}"
