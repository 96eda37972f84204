"""Counts of a table in one partition, kept in memory as any store keeps them; and the same as the oracle has them."""

from __future__ import annotations

import base64
import copy
from dataclasses import dataclass, field
from random import Random
from typing import Any

from domain.certificate import Certificate, ClassCount
from domain.fold import Ahead, Dirty, Standing
from domain.keys import encode_key
from domain.spec import TableSpec, TopicSpec
from tests.spec import oracle
from tests.unit.domain.logs import Line

Cells = dict[tuple[int, bytes], tuple[int, int, int]]


@dataclass
class State:
    """What is compared: tallies, stream time, cells and certificates."""

    tallies: dict[str, int]
    stream_time: int | None
    cells: Cells
    certificates: dict[int, Certificate]


@dataclass
class Store:
    """Rows and progress; cutting a checkpoint adds a dirty set to them."""

    standing: Standing
    cells: Cells = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    ids: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def known_ids(self, start: int, ids: Any) -> list[int | None]:
        return [self.ids.get((start, one)) for one in ids]

    def commit(self, dirty: Dirty) -> None:
        self.apply(self.rows(dirty))

    def rows(self, dirty: Dirty) -> Rows:
        """Absolute rows of a dirty set, as a checkpoint would write them."""
        rows = Rows()
        for start, window in dirty.items():
            assert set(window.last) == set(window.on_time) | set(window.late), "each counted key has a last offset"
            for raw, last in window.last.items():
                on_time, late, _ = self.cells.get((start, encode_key(raw)), (0, 0, -1))
                rows.cells[start, encode_key(raw)] = (on_time + window.on_time[raw], late + window.late[raw], last)
            if window.certificate.offset >= 0:
                certificate = copy.deepcopy(self.certificates.get(start, Certificate()))
                certificate.add(window.certificate)
                rows.certificates[start] = certificate
            rows.ids.update({(start, one): offset for one, offset in window.ids.items()})
        return rows

    def apply(self, rows: Rows) -> None:
        self.cells.update(rows.cells)
        self.certificates.update(rows.certificates)
        self.ids.update(rows.ids)

    def ahead(self) -> Ahead:
        """Rows past the progress, as a restore finds them."""
        done = self.standing.next_offset
        cells = {at: cell[2] for at, cell in self.cells.items() if cell[2] >= done}
        certificates = {start: one.offset for start, one in self.certificates.items() if one.offset >= done}
        ids = [offset for offset in self.ids.values() if offset >= done]
        return Ahead(cells, certificates, max([*cells.values(), *certificates.values(), *ids], default=-1))

    def state(self) -> State:
        return State(self.standing.tallies, self.standing.stream_time, self.cells, self.certificates)


@dataclass
class Rows:
    """Rows of one checkpoint."""

    cells: Cells = field(default_factory=dict)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    ids: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def some(self, r: Random) -> Rows:
        """What a torn transaction leaves: any of the rows."""
        return Rows(*({at: row for at, row in rows.items() if r.randint(0, 1)} for rows in self.all()))

    def all(self) -> tuple[dict[Any, Any], ...]:
        return self.cells, self.certificates, self.ids


def oracle_topic(topic: TopicSpec) -> dict[str, Any]:
    rule = topic.event_time
    return {
        "event_time": {"format": rule.format.value, "field": rule.field},
        "max_past": f"{topic.max_past_ms}ms",
        "max_future": f"{topic.max_future_ms}ms",
    }


def oracle_table(table: TableSpec) -> dict[str, Any]:
    where: list[dict[str, Any]] = []
    for rule in table.where:
        plain: dict[str, Any] = {"field": rule.field}
        if rule.allowed is not None:
            plain |= {"equals": rule.allowed[0]} if len(rule.allowed) == 1 else {"in": list(rule.allowed)}
        if rule.exists is not None:
            plain["exists"] = rule.exists
        where.append(plain)
    return {
        "key": [
            {"source": "kafka_key", "type": one.type.value}
            if one.field is None
            else {"field": one.field, "type": one.type.value}
            for one in table.key
        ],
        "where": where,
        "dedup": None if table.dedup is None else {"field": table.dedup},
        "window": f"{table.window_ms}ms",
        "grace": f"{table.grace_ms}ms",
        "retention": f"{table.retention_ms}ms",
    }


def oracle_state(topic: TopicSpec, table: TableSpec, log: tuple[Line, ...]) -> State:
    got = oracle.fold_partition([line.plain() for line in log], oracle_topic(topic), oracle_table(table))
    return State(
        got["tallies"],
        got["stream_time"],
        {
            (start, base64.b64decode(key)): tuple(cell)
            for start, by_key in got["cells"].items()
            for key, cell in by_key.items()
        },
        {
            start: Certificate(
                one["offset"], ClassCount(**one["on_time"]), ClassCount(**one["late"]), ClassCount(**one["expired"])
            )
            for start, one in got["certificates"].items()
        },
    )
