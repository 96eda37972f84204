"""Dropping our HBase tables, nobody else's; and asking for all counts again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.errors import RefusedError
from sinks.hbase.claim import Claimant, read_owner, renew
from sinks.hbase.connection import Pool
from sinks.hbase.drop import drop, droppable, existing
from tests.hbase_rows import Stranger

START = 1_700_000_000_000


@pytest.fixture
def pool(hbase_thrift: str) -> Iterator[Pool]:
    made = Pool(hbase_thrift, timeout_s=60.0)
    yield made
    made.close()


def names(stranger: Stranger) -> list[str]:
    """The one that says whose they are last."""
    return [f"recount_{stranger.table}", f"recount_{stranger.table}_windows"]


def test_our_tables_are_dropped_whatever_their_settings_were(stranger: Stranger, pool: Pool) -> None:
    stranger.own("clicks", "clicks", "an older fingerprint")
    stranger.cell(START, b"k", n0=1)
    assert droppable(pool, "clicks", stranger.table) == names(stranger)
    assert droppable(pool, "clicks", stranger.table, "clicks") == names(stranger)
    drop(pool, names(stranger))
    assert existing(pool, names(stranger)) == []
    drop(pool, names(stranger))
    assert droppable(pool, "clicks", stranger.table) == []


def test_those_of_another_topic_stay_with_it(stranger: Stranger, pool: Pool) -> None:
    stranger.own("clicks", "orders", "f")
    assert droppable(pool, "clicks", stranger.table, "clicks") == []
    assert droppable(pool, "clicks", stranger.table) == names(stranger)


def test_those_of_another_app_are_refused(stranger: Stranger, pool: Pool) -> None:
    stranger.own("other", "clicks", "f")
    with pytest.raises(RefusedError, match="counts of app other, not of clicks"):
        droppable(pool, "clicks", stranger.table)


def test_those_that_nobody_claimed_are_left_alone_or_refused(stranger: Stranger, pool: Pool) -> None:
    assert droppable(pool, "clicks", stranger.table) == []
    stranger.cell(START, b"k", n0=1)
    with pytest.raises(RefusedError, match="nothing says whose counts these are"):
        droppable(pool, "clicks", stranger.table)


def test_an_owner_row_nobody_can_read_is_refused(stranger: Stranger, pool: Pool) -> None:
    stranger.windows.put(b"owner", {b"c:owner": b"{"})
    with pytest.raises(RefusedError, match="its row owner makes no sense"):
        droppable(pool, "clicks", stranger.table)


@pytest.mark.parametrize("which", [0, 1], ids=["counts", "windows"])
def test_a_drop_cut_short_goes_on(stranger: Stranger, pool: Pool, which: int) -> None:
    stranger.own("clicks", "clicks", "f")
    stranger.cell(START, b"k", n0=1)
    if which == 1:
        drop(pool, names(stranger)[:1])
    stranger.connection.disable_table(names(stranger)[which])
    left = names(stranger)[which:]
    assert droppable(pool, "clicks", stranger.table) == left
    drop(pool, left)
    assert existing(pool, names(stranger)) == []


def test_a_disabled_table_of_another_app_stays_disabled(stranger: Stranger, pool: Pool) -> None:
    stranger.own("other", "clicks", "f")
    stranger.connection.disable_table(names(stranger)[1])
    with pytest.raises(RefusedError, match="app other"):
        droppable(pool, "clicks", stranger.table)
    assert not stranger.connection.is_table_enabled(names(stranger)[1])


def test_a_new_id_is_given_to_our_own_tables_alone(stranger: Stranger, pool: Pool) -> None:
    ours = Claimant(stranger.table, "clicks", "clicks", "f")
    assert renew(pool, ours) is None, "nobody's yet"
    stranger.own("clicks", "clicks", "f")
    owner = renew(pool, ours)
    assert owner is not None
    assert owner.table_id != "0011"
    with pool.connection() as connection:
        assert read_owner(connection, stranger.table) == owner
    with pytest.raises(RefusedError, match="it holds other counts"):
        renew(pool, Claimant(stranger.table, "other", "clicks", "f"))
    assert renew(pool, Claimant("never_made", "clicks", "clicks", "f")) is None
