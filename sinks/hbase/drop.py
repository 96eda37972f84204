"""Dropping a table's two HBase tables: disabled and deleted, never cell by cell, and only if they are ours."""

from __future__ import annotations

from collections.abc import Iterable

from domain.errors import CorruptRowError, RefusedError
from sinks.hbase.claim import Owner, read_owner
from sinks.hbase.connection import Connection, Pool
from sinks.hbase.format import counts_table, windows_table


def droppable(pool: Pool, app: str, table: str, topic: str | None = None) -> list[str]:
    """The names of those that exist, in the order they must be dropped: the one that says whose they are comes last.

    With a topic: none if they hold the counts of our table of that name of another topic.

    Raises `RefusedError` if they are another app's or nobody knows whose, `SinkUnavailableError`.
    """
    counts, windows = counts_table(table), windows_table(table)
    with pool.connection() as connection:
        there = {name.decode() for name in connection.tables()}
        found = [name for name in (counts, windows) if name in there]
        if windows in there:
            owner = _owner(connection, table)
            if owner is not None and owner.app == app:
                return found if topic in (None, owner.topic) else []
            if owner is not None:
                raise RefusedError(
                    f"HBase table {counts}",
                    f"it holds counts of app {owner.app}, not of {app}",
                    "Another app counts a table of this name: it is left alone. Is app.id right?",
                )
        if counts in there and _first_row(connection, counts):
            raise RefusedError(
                f"HBase table {counts}",
                f"nothing says whose counts these are: {windows} has no row owner",
                f"If nobody needs them, drop {counts} and {windows} in HBase, then run this again",
            )
    return []  # made by hand and empty: as good as new


def existing(pool: Pool, names: Iterable[str]) -> list[str]:
    with pool.connection() as connection:
        there = {name.decode() for name in connection.tables()}
    return [name for name in names if name in there]


def drop(pool: Pool, names: Iterable[str]) -> None:
    """Safe to repeat. Raises `SinkUnavailableError`."""
    for name in names:
        with pool.connection() as connection:
            if name.encode() in connection.tables():
                connection.delete_table(name, disable=True)


def _owner(connection: Connection, table: str) -> Owner | None:
    """None: nobody's yet."""
    name = windows_table(table)
    disabled = not connection.is_table_enabled(name)
    if disabled:  # as a drop that was cut short leaves it; it can't be read so
        connection.enable_table(name)
    try:
        owner = read_owner(connection, table)
    except CorruptRowError as err:
        raise RefusedError(
            f"HBase table {name}",
            f"its row owner makes no sense: {err}",
            f"If nobody needs its counts, drop {counts_table(table)} and {name} in HBase, then run this again",
        ) from err
    if disabled:
        connection.disable_table(name)
    return owner


def _first_row(connection: Connection, name: str) -> bool:
    if not connection.is_table_enabled(name):
        return True
    return next(connection.table(name).scan(limit=1), None) is not None
