"""`recount reset`: what was refused counts again from its start, exactly; and nothing else is touched."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import happybase
import pytest

from app.reset import Step
from domain.rows import Kind, parse_key
from domain.spec import changelog_topic
from tests import kafka
from tests.e2e.commands import recount
from tests.e2e.conftest import MakeScene
from tests.e2e.scene import Scene
from tests.e2e.test_hbase import check
from tests.e2e.test_log_changes import counted, refused, send_more
from tests.e2e.test_refusals import changed

pytestmark = pytest.mark.e2e

Rows = dict[int, dict[bytes, Any]]


def other_rows(scene: Scene, table: str) -> Rows:
    """Of everything but a table; progress without its state id."""
    found: Rows = {}
    for partition, rows in scene.verifier.changelog().items():
        kept = found[partition] = {}
        for key, value in rows.items():
            parsed = parse_key(key)
            assert parsed is not None
            if parsed.table == table:
                continue
            kept[key] = value
            if parsed.kind is Kind.PROGRESS:
                kept[key] = {name: one for name, one in json.loads(value).items() if name != "state_id"}
    return found


def in_hbase(address: str, tables: list[str]) -> dict[str, Any]:
    """Every cell with its version."""
    host, _, port = address.rpartition(":")
    stranger = happybase.Connection(host, int(port), timeout=60_000)
    try:
        return {
            name: dict(stranger.table(name).scan(include_timestamp=True))
            for table in tables
            for name in (f"recount_{table}", f"recount_{table}_windows")
        }
    finally:
        stranger.close()


def archive_of(scene: Scene) -> Path:
    return scene.folder / "archive"


def restarted(scene: Scene, *, hbase: bool = True, finals_again: bool = False) -> None:
    """Counting goes on with new records, and everything is exact.

    `finals_again`: into another topic, as the command advises, for they are sent once more.
    """
    if finals_again:
        changed(f'"{scene.topic}-finals"', f'"{scene.topic}-finals-again"')(scene)
    (worker,) = scene.workers[:1]
    worker.start()
    worker.wait_ready()
    send_more(scene, seed=97, records=4_000)
    if hbase:
        check(scene, worker)
    else:
        scene.verifier.check_live(worker)
    scene.stop()
    expected = scene.verifier.expect()
    scene.verifier.check_stopped(expected)


def test_one_of_several_tables_starts_over_with_new_settings(make_scene: MakeScene, hbase_thrift: str) -> None:
    scene = make_scene(hbase=True, partitions=2)
    worker = counted(scene, seed=81)
    table, others = scene.tables[1], [scene.tables[0], scene.tables[2]]
    changed('grace = "30s"', 'grace = "31s"')(scene)
    assert f"recount reset --table {table}" in refused(worker)
    before, stored = other_rows(scene, table), in_hbase(hbase_thrift, others)

    code, said = recount(scene, "reset", "--table", table)
    assert (code, "add --yes" in said) == (2, True), said
    assert f"HBase table recount_{table}: dropped" in said
    assert other_rows(scene, table) == before
    code, said = recount(scene, "reset", "--table", table, "--yes")
    assert code == 0, said
    assert f"untouched: {', '.join(sorted(others))}, the archive, the events" in said

    left = {parse_key(key) for rows in scene.verifier.changelog().values() for key in rows}
    assert table not in {one.table for one in left if one is not None}
    assert other_rows(scene, table) == before
    assert in_hbase(hbase_thrift, others) == stored
    assert not (scene.folder / "data" / "ops" / "state" / f"{scene.topic}-0").exists()
    # Its directory is still that of before the reset.
    assert (scene.folder / "data" / "w1" / "state" / f"{scene.topic}-0").exists()
    restarted(scene)


def test_a_reset_is_refused_while_a_worker_runs(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=1)
    (worker,) = scene.start("w1")
    for what in (["--table", "visits"], ["--topic", scene.topic]):
        code, said = recount(scene, "reset", *what, "--yes")
        assert code == 4, said
        assert "instance w1 at 127.0.0.1" in said
        assert "Stop every worker" in said
    send_more(scene, seed=82, records=2_000)
    scene.verifier.check_live(worker)
    scene.stop()


@pytest.mark.parametrize("partitions", [2, pytest.param(1, marks=pytest.mark.long)])
def test_a_topic_made_anew_is_counted_and_the_old_archive_kept(make_scene: MakeScene, partitions: int) -> None:
    scene = make_scene(hbase=True, partitions=2)
    worker = counted(scene, seed=83)
    old = {path.relative_to(archive_of(scene) / scene.topic) for path in archive_of(scene).rglob("*.log")}
    kafka.run_apart(kafka.delete_topic(scene.bootstrap, scene.topic))
    kafka.run_apart(kafka.create_topic(scene.bootstrap, scene.topic, partitions, {"max.message.bytes": str(12 << 20)}))
    scene.partitions = partitions
    send_more(scene, seed=84, records=14_000)
    assert f"recount reset --topic {scene.topic}" in refused(worker)
    code, said = recount(scene, "reset", "--table", scene.tables[0], "--yes")
    assert (code, f"recount reset --topic {scene.topic}" in said) == (4, True), said

    code, said = recount(scene, "reset", "--topic", scene.topic, "--yes")
    assert code == 0, said
    (aside,) = archive_of(scene).glob(f"{scene.topic}.*Z")
    assert str(aside) in said
    assert {path.relative_to(aside) for path in aside.rglob("*.log")} == old
    assert f"finals topic {scene.topic}-finals: stays, and gets every final of these windows again" in said
    restarted(scene, finals_again=True)


@pytest.mark.long
def test_a_lost_changelog_is_started_over(make_scene: MakeScene) -> None:
    scene = make_scene(hbase=True, partitions=2)
    worker = counted(scene, seed=85)
    kafka.run_apart(kafka.delete_topic(scene.bootstrap, changelog_topic(scene.app, scene.topic)))
    command = f"recount reset --topic {scene.topic}"
    assert command in refused(worker)
    code, said = recount(scene, "reset", "--table", scene.tables[0], "--yes")
    assert (code, command in said) == (4, True), said
    code, said = recount(scene, "reset", "--topic", scene.topic, "--yes")
    assert code == 0, said
    restarted(scene, finals_again=True)
    assert recount(scene, "reset", "--topic", scene.topic, "--yes")[0] == 0
    code, said = recount(scene, "reset", "--topic", scene.topic, "--yes")
    assert (code, said) == (0, f"nothing to reset: there is no state of {scene.topic}\n")


@pytest.mark.long
@pytest.mark.parametrize("whole", [False, True], ids=["table", "topic"])
def test_a_reset_killed_after_any_step_is_finished_by_the_next(make_scene: MakeScene, whole: bool) -> None:
    scene = make_scene(hbase=True, partitions=2)
    worker = counted(scene, seed=86)
    what = ["--topic", scene.topic] if whole else ["--table", scene.tables[0]]
    for step in Step:
        code, said = recount(scene, "reset", *what, "--yes", module=("tests.e2e.dying_reset", step.name))
        assert code == -signal.SIGKILL, f"{step}: {said}"
        if step is not Step.CHANGELOG:
            assert f"recount reset {' '.join(what)}" in refused(worker), step
    restarted(scene, finals_again=True)


def test_a_table_that_is_configured_no_more_is_found_in_the_changelog(make_scene: MakeScene) -> None:
    scene = make_scene(partitions=1)
    counted(scene, seed=87)
    text = scene.config.read_text()
    at = text.index('[[tables]]\nname = "senders"')
    scene.config.write_text(text[:at] + text[text.index("[checkpoint]") :])
    code, said = recount(scene, "reset", "--table", "nobody", "--yes")
    assert (code, "known: page_views, senders, visits" in said) == (2, True), said
    code, said = recount(scene, "reset", "--table", "senders", "--yes")
    assert code == 0, said
    left = {parse_key(key) for rows in scene.verifier.changelog().values() for key in rows}
    assert {one.table for one in left if one is not None} == {"", "page_views", "visits"}
    scene.config.write_text(text)
    restarted(scene, hbase=False)
