"""Asking workers to write a table's counts to HBase again: its tables get a new id, as if they had been made anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.claimants import claimants
from app.config import Config
from domain.errors import ConfigError, DependencyError, SinkUnavailableError
from sinks.hbase.claim import Claimant, Owner, renew
from sinks.hbase.connection import Pool
from sinks.hbase.reader import HBaseReader, NoSuchTableError


def look(config: Config, table: str) -> Claimant | None:
    """Whose tables they should be; None: there are none yet.

    Raises `RefusedError` when they are another's, `ConfigError`, `DependencyError`, `CorruptRowError`.
    """
    if config.sinks.hbase is None:
        raise ConfigError("sinks.hbase", "missing", "without HBase there is nothing to write again")
    claimant = next((one for one in claimants(config) if one.table == table), None)
    if claimant is None:
        known = ", ".join(one.name for one in config.tables)
        raise ConfigError("--table", f'no [[tables]] names "{table}"', f"known: {known or 'none'}")
    with _pool(config) as pool:
        try:
            owner = HBaseReader(pool, table).owner()
        except NoSuchTableError:
            return None
    if owner is None:
        return None
    claimant.check(owner)
    return claimant


def ask_for_rescan(config: Config, claimant: Claimant) -> Owner | None:
    """Workers see the new id at their next pass, those that start later at their first. Safe to repeat."""
    with _pool(config) as pool:
        return renew(pool, claimant)


@contextmanager
def _pool(config: Config) -> Iterator[Pool]:
    assert config.sinks.hbase is not None
    pool = Pool(*config.sinks.hbase.thrift)
    try:
        yield pool
    except SinkUnavailableError as err:
        raise DependencyError(err.sink, err.reason, "start it, or correct sinks.hbase.thrift") from err
    finally:
        pool.close()
