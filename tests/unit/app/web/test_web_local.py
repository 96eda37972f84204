"""A worker's own answers: in bounded time, with what isn't ready by name."""

from __future__ import annotations

import threading

from app.web.local import LocalReader
from app.web.wire import StatusAsk, TalliesAsk, WindowsAsk
from tests.unit.app.web.fakes import TABLES, FakePartition, FakeView


async def test_a_read_that_takes_too_long_is_named_and_the_others_are_answered() -> None:
    view = FakeView({0: FakePartition(), 1: FakePartition()})
    release = threading.Event()
    view.before_read = lambda partition: None if partition == 0 else _wait(release)
    reader = LocalReader(view, TABLES, deadline_s=0.05)
    reply = await reader.answer(TalliesAsk("page_views"))
    release.set()
    reader.close()
    assert [a.partition for a in reply.answers] == [0]
    assert reply.not_ready == {1: "the read took over 0.05 s; ask again"}


def _wait(release: threading.Event) -> None:
    assert release.wait(10), "waited for the test to release the reader"


async def test_a_worker_without_partitions_answers_empty() -> None:
    reader = LocalReader(FakeView({}), TABLES)
    assert (await reader.answer(WindowsAsk("page_views", 0, 1))).answers == []
    assert (await reader.answer(StatusAsk())).statuses == []
    reader.close()


async def test_an_owned_partition_that_is_not_ready_is_named_with_its_state() -> None:
    reader = LocalReader(FakeView({3: FakePartition(state="restoring")}), TABLES)
    assert (await reader.answer(TalliesAsk("page_views"))).not_ready == {3: "not ready (restoring)"}
    reader.close()


async def test_partitions_of_another_topic_are_no_part_of_a_tables_answer() -> None:
    view = FakeView({3: FakePartition(state="restoring")}, topic="orders")
    reader = LocalReader(view, TABLES)
    assert (await reader.answer(TalliesAsk("page_views"))).not_ready == {}
    reader.close()
