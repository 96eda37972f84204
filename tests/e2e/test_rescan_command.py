"""`recount rescan`: damage in HBase comes right while workers count on."""

from __future__ import annotations

from collections import Counter

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


AHEAD = 2_000  # offsets


def damage(table: happybase.Table) -> tuple[dict[bytes, dict[bytes, bytes]], dict[int, int]]:
    """Half of a late window's rows deleted, half of them wrong, above any version put in the next seconds.

    What shows now, and the offset by partition that must be passed before anything can come right.
    """
    rows = dict(table.scan(include_timestamp=True))
    newest: dict[int, int] = {}
    for columns in rows.values():
        for column, (_, version) in columns.items():
            newest[int(column[3:])] = max(version, newest.get(int(column[3:]), 0))
    sizes = Counter(row[3:18] for row in rows)
    start = max(one for one, size in sizes.items() if size > 10)
    hurt = sorted(row for row in rows if row[3:18] == start)
    for number, row in enumerate(hurt):
        for column in rows[row]:
            at = newest[int(column[3:])] + AHEAD
            if number % 2:
                table.delete(row, [column], timestamp=at)
            else:
                table.put(row, {column: WRONG}, timestamp=at)
    return {row: table.row(row) for row in hurt}, {p: version - BASE + AHEAD for p, version in newest.items()}


def test_damaged_counts_are_written_again_while_workers_count_on(make_scene: MakeScene, hbase_thrift: str) -> None:
    scene = make_scene(hbase=True, partitions=2)
    (worker,) = scene.start("w1")
    host, _, port = hbase_thrift.rpartition(":")
    stranger = happybase.Connection(host, int(port), timeout=60_000)
    table = stranger.table(f"recount_{scene.tables[0]}")
    with scene.load(seed=91, rate=700) as driver:
        driver.wait_sent(6_000)
        wait_for("counts of some windows in HBase", lambda: progress(worker)[1] > 5_000, 60)
        code, said = recount(scene, "rescan", "--table", scene.tables[0])
        assert (code, "add --yes" in said) == (2, True), said
        before = worker.metric(RESCANS)
        shown, passed = damage(table)
        assert WRONG in {value for columns in shown.values() for value in columns.values()}
        assert not all(shown.values()), "some are gone"
        wait_for("versions above the damage", lambda: above(worker, passed), 60)
        assert worker.metric(RESCANS) == before

        code, said = recount(scene, "rescan", "--table", scene.tables[0], "--yes")
        assert code == 0, said
        assert RESCANS in said
        wait_for("a rescan of each partition", lambda: worker.metric(RESCANS) == before + 2, 60)
        driver.wait_sent(driver.total + 1_000)
    stranger.close()
    check(scene, worker)
    assert worker.metric(RESCANS) == before + 2, "of that table alone"
    stop_and_refuse(scene, worker)


def above(worker: Worker, offsets: dict[int, int]) -> bool:
    """Whether HBase has got past these offsets."""
    found = {one["partition"]: one["hbase_next_offset"] or 0 for one in worker.get("/api/v1/partitions")["partitions"]}
    return all(found[partition] > offset for partition, offset in offsets.items())


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
