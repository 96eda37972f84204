"""`recount check` on HBase, good and bad."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from app import check_hbase
from app.check_hbase import CHECK_COLUMN, CHECK_ROW, probe_hbase
from app.check_probes import Finding, Mark, in_thread
from app.claimants import claimants
from app.config import Config
from tests.hbase_rows import Stranger, new_table_name
from tests.unit.app.configs import load


def config_of(table: str, *addresses: str, events: bool = False) -> Config:
    servers = ", ".join(f'"{one}"' for one in addresses)
    return load(f"""
[app]
id = "clicks"
[[topics]]
name = "clicks"
event_time = {{ format = "kafka" }}
[[tables]]
name = "{table}"
topic = "clicks"
key = ["page"]
[sinks.hbase]
thrift = [{servers}]
{'events = ["clicks"]' if events else ""}
""")


@pytest.fixture
def stranger(hbase_thrift: str) -> Iterator[Stranger]:
    one = Stranger(hbase_thrift, new_table_name())
    yield one
    one.close()


def own(stranger: Stranger, app: str = "clicks") -> None:
    (ours,) = claimants(config_of(stranger.table, stranger.address))
    stranger.own(app, ours.topic, ours.fingerprint)


async def probe(stranger: Stranger) -> list[Finding]:
    return await probe_hbase(config_of(stranger.table, stranger.address))


def only_bad(findings: list[Finding]) -> Finding:
    (one,) = [finding for finding in findings if finding.mark is not Mark.OK]
    return one


async def test_tables_that_are_not_there_are_left_to_the_worker(stranger: Stranger) -> None:
    found = await probe_hbase(config_of(stranger.table, stranger.address, events=True))
    assert {one.mark for one in found} == {Mark.OK}
    texts = [one.text for one in found]
    assert texts[0] == f"HBase at {stranger.address}: answers"
    assert texts[1:3] == [f"HBase table recount_{stranger.table}{end}: will be made" for end in ("", "_windows")]
    assert f"recount_{stranger.table}".encode() not in stranger.connection.tables(), "nothing is made"


async def test_our_tables_pass_again_and_again(stranger: Stranger) -> None:
    stranger.make_tables()
    (_, unclaimed) = await probe(stranger)
    assert (unclaimed.mark, "nobody's yet" in unclaimed.text) == (Mark.OK, True)
    own(stranger)
    for _ in range(3):
        (_, found) = await probe(stranger)
        assert found.mark is Mark.OK
        assert found.text == f"HBase table recount_{stranger.table}: ours; a higher version shows over a later put"
    assert [row for row, _ in stranger.windows.scan()] == [CHECK_ROW, b"owner"]


async def test_anothers_tables_are_named_and_not_written(stranger: Stranger) -> None:
    stranger.make_tables()
    own(stranger, app="other")
    found = only_bad(await probe(stranger))
    assert found.mark is Mark.WRONG
    assert "app other" in found.text
    assert "another name" in found.fix
    assert stranger.windows.row(CHECK_ROW) == {}


async def test_an_owner_row_nobody_can_read_is_wrong(stranger: Stranger) -> None:
    stranger.make_tables()
    stranger.windows.put(b"owner", {b"c:owner": b"{"})
    found = only_bad(await probe(stranger))
    assert (found.mark, "row owner" in found.text) == (Mark.WRONG, True)


async def test_a_table_that_forgets_is_wrong(stranger: Stranger) -> None:
    stranger.make_tables(time_to_live=86_400)
    own(stranger)
    wrong = [one for one in await probe(stranger) if one.mark is Mark.WRONG]
    assert [one.text for one in wrong] == [
        f"HBase table recount_{stranger.table}{end}: it has a time to live of 86400 s; counts are for good"
        for end in ("", "_windows")
    ]
    assert "TTL => 'FOREVER'" in wrong[0].fix


async def test_a_table_without_our_family_is_wrong(stranger: Stranger) -> None:
    stranger.connection.create_table(f"recount_{stranger.table}", {"d": {}})
    assert "no family c" in only_bad(await probe(stranger)).text


async def test_a_lower_version_that_shows_is_wrong(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger.make_tables()
    own(stranger)
    monkeypatch.setattr(check_hbase, "keeps_higher_version", lambda *_: False)
    assert only_bad(await probe(stranger)).mark is Mark.WRONG


async def test_a_check_row_from_the_future_is_stepped_over(stranger: Stranger) -> None:
    stranger.make_tables()
    own(stranger)
    stranger.windows.put(CHECK_ROW, {CHECK_COLUMN: b"x"}, timestamp=2**50)
    assert {one.mark for one in await probe(stranger)} == {Mark.OK}


async def test_one_server_of_two_away(stranger: Stranger) -> None:
    found = await probe_hbase(config_of(stranger.table, "127.0.0.1:1", stranger.address))
    assert [one.mark for one in found] == [Mark.UNREACHABLE, Mark.OK, Mark.OK, Mark.OK]
    assert "HBase at 127.0.0.1:1: Could not connect" in found[0].text
    assert found[0].fix == "start it, or correct sinks.hbase.thrift"


async def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_hbase, "SOCKET_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        (found,) = await probe_hbase(config_of("t", f"127.0.0.1:{silent.getsockname()[1]}"))
        assert found.mark is Mark.UNREACHABLE
        assert time.monotonic() - before < 3
        monkeypatch.setattr(check_hbase, "in_thread", lambda work, late: in_thread(work, late, deadline_s=0.05))
        (found,) = await probe_hbase(config_of("t", f"127.0.0.1:{silent.getsockname()[1]}"))
        assert "no answer within" in found.text


async def test_without_the_sink_nothing_is_probed() -> None:
    assert await probe_hbase(load()) == []
