"""`recount rescan`: damage in HBase comes right while workers count on."""

from __future__ import annotations

import happybase
import pytest

from tests.e2e.commands import recount
from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene
from tests.e2e.test_hbase import check, progress
from tests.e2e.workers import Worker
from tests.waiting import wait_for

pytestmark = pytest.mark.e2e

RESCANS = "recount_hbase_rescans_total"
WRONG = (999_999).to_bytes(8, "big")
BASE = 2**48


def damage(table: happybase.Table) -> dict[bytes, dict[bytes, bytes]]:
    """Half of the oldest window's rows deleted, half of them wrong, all above their versions; what shows now."""
    rows = dict(table.scan(include_timestamp=True))
    oldest = min(row[3:18] for row in rows)
    hurt = sorted(row for row in rows if row[3:18] == oldest)
    assert len(hurt) > 10
    for number, row in enumerate(hurt):
        for column, (_, version) in rows[row].items():
            if number % 2:
                table.delete(row, [column], timestamp=version + 1)
            else:
                table.put(row, {column: WRONG}, timestamp=version + 1)
    return {row: table.row(row) for row in hurt}


def test_damaged_counts_are_written_again_while_workers_count_on(make_scene: MakeScene, hbase_thrift: str) -> None:
    scene = make_scene(hbase=True, partitions=2)
    (worker,) = scene.start("w1")
    host, _, port = hbase_thrift.rpartition(":")
    stranger = happybase.Connection(host, int(port), timeout=60_000)
    table = stranger.table(f"recount_{scene.tables[0]}")
    with scene.load(seed=91, rate=1500) as driver:
        driver.wait_sent(10_000)
        wait_for("counts of some windows in HBase", lambda: progress(worker)[1] > 9_000, 60)
        shown = damage(table)
        assert all(value == WRONG for columns in shown.values() for value in columns.values())
        assert not all(shown.values()), "some are gone"
        before = worker.metric(RESCANS)
        driver.wait_sent(driver.total + 3_000)
        assert {row: table.row(row) for row in shown} == shown, "nothing comes right by itself"
        assert worker.metric(RESCANS) == before

        code, said = recount(scene, "rescan", "--table", scene.tables[0])
        assert (code, "add --yes" in said) == (2, True), said
        code, said = recount(scene, "rescan", "--table", scene.tables[0], "--yes")
        assert code == 0, said
        assert RESCANS in said
        wait_for("a rescan of each partition", lambda: worker.metric(RESCANS) == before + 2, 60)
        driver.wait_sent(driver.total + 3_000)
    stranger.close()
    check(scene, worker)
    assert worker.metric(RESCANS) == before + 2, "of that table alone"
    stop_and_refuse(scene, worker)


def stop_and_refuse(scene: Scene, worker: Worker) -> None:
    """What a rescan doesn't touch."""
    code, said = recount(scene, "rescan", "--table", "nobody", "--yes")
    assert (code, scene.tables[0] in said) == (2, True), said
    worker.terminate()
    text = scene.config.read_text()
    scene.config.write_text(text.replace(f'id = "{scene.app}"', 'id = "another"'))
    for command in ("rescan", "reset"):
        code, said = recount(scene, command, "--table", scene.tables[0], "--yes")
        assert (code, f"app {scene.app}" in said) == (4, True), said
    lines = ['thrift = ["127.0.0.1:1"]' if one.startswith("thrift") else one for one in text.splitlines()]
    scene.config.write_text("\n".join(lines))
    for command in ("rescan", "reset"):
        code, said = recount(scene, command, "--table", scene.tables[0], "--yes")
        assert (code, "sinks.hbase.thrift" in said) == (3, True), said
