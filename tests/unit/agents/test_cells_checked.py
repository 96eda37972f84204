"""When a restored partition's cells are checked."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agents.cell_check import SETTLED_POLL_S, CellChecks
from agents.partition import Partition, TableFold
from domain.fold import Ahead
from tests.unit.agents.clock import pass_time, until
from tests.unit.agents.fakes import NOW_MS, P0, STATE_ID, TOPIC, VIEWS, FakeListener, batch, open_store, resumed

START = NOW_MS - NOW_MS % VIEWS.window_ms


async def test_rows_of_a_torn_transaction_are_checked_once_progress_covers_them(state_dir: Path) -> None:
    store = open_store(state_dir)
    before = Partition(TOPIC, 0, store, STATE_ID, resumed(store, VIEWS))
    before.fold(batch(0, "ab"))
    torn = before.cut()
    assert torn is not None
    store.commit(torn.encode(store).tables["views"].cells)  # neither certificate nor progress came through

    (table,) = resumed(store, VIEWS)
    ahead = Ahead(cells={(START, b"a"): 0, (START, b"b"): 1}, until=1)
    partition = Partition(TOPIC, 0, store, STATE_ID, [TableFold.resume(VIEWS, table.committed, ahead)])
    listener = FakeListener()
    checking = asyncio.create_task(CellChecks(listener).check(P0, partition, lambda: True))
    await pass_time(10 * SETTLED_POLL_S)
    assert listener.checks == [], "it would be mistaken now"
    partition.fold(batch(0, "ab"))
    await pass_time(10 * SETTLED_POLL_S)
    assert listener.checks == [], "folded past them, but not committed"
    checkpoint = partition.cut()
    assert checkpoint is not None
    encoded = checkpoint.encode(store)
    store.commit(encoded.rows)
    partition.committed(checkpoint, encoded)
    await until("the check", lambda: listener.checks)
    assert listener.checks == [(P0, False)]
    await checking
    store.close()
