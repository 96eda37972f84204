from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from app import check_probes
from app.check_probes import Finding, Mark, in_thread, probe_archive, probe_data_dir, probe_secrets
from app.check_topics import Cluster, judge
from app.config import MINIMAL
from app.transport.admin import TopicInfo
from domain.errors import SinkUnavailableError
from tests.unit.app.configs import load, patched

SOURCE = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
    "cleanup.policy": "delete",
}
CHANGELOG = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "min.insync.replicas": "2",
    "max.message.bytes": "1048576",
}
LOG = "clicks-clicks-changelog"


def findings(
    source: dict[str, str] | None = SOURCE, changelog: dict[str, str] | None = None, brokers: int = 3, **shape: int
) -> list[Finding]:
    topics, settings = {}, {}
    if source is not None:
        topics["clicks"] = TopicInfo("clicks", 4, 3, shape.get("source_in_sync", 3))
        settings["clicks"] = source
    if changelog is not None:
        copies = shape.get("replication", 3)
        topics[LOG] = TopicInfo(LOG, shape.get("partitions", 4), copies, shape.get("in_sync", copies))
        settings[LOG] = changelog
    return list(judge(load(), Cluster(brokers, topics, settings)))


def worst(found: list[Finding]) -> Finding:
    (one,) = [finding for finding in found if finding.mark is not Mark.OK]
    return one


def test_a_right_cluster_has_only_good_lines() -> None:
    for changelog in (None, CHANGELOG):
        assert {finding.mark for finding in findings(changelog=changelog)} == {Mark.OK}
    assert findings()[1].text == "topic clicks: 4 partitions"


def test_a_missing_source_topic_names_the_command_that_makes_it() -> None:
    found = worst(findings(source=None))
    assert found.mark is Mark.WRONG
    assert "kafka-topics.sh --bootstrap-server 127.0.0.1:9092 --create --topic clicks" in found.fix


def test_more_copies_than_brokers_name_what_to_set() -> None:
    found = worst(findings(brokers=1))
    assert "3 copies don't fit on 1 broker" in found.text
    assert "kafka.replication = 1 and kafka.min_insync_replicas = 1" in found.fix
    assert Mark.WRONG not in {finding.mark for finding in findings(changelog=CHANGELOG, brokers=1)}


@pytest.mark.parametrize("limit", [None, str(2**63 - 1)])
def test_a_producers_clock_without_limit_warns(limit: str | None) -> None:
    settings = {name: value for name, value in SOURCE.items() if "after" not in name}
    found = worst(findings({**settings, "message.timestamp.after.max.ms": limit} if limit else settings))
    assert found.mark is Mark.WARN
    assert "message.timestamp.after.max.ms=3600000" in found.fix
    assert not [one for one in findings({**settings, "message.timestamp.type": "LogAppendTime"}) if one.fix]


def test_a_source_compacted_at_once_warns() -> None:
    assert "min.compaction.lag.ms" in worst(findings({**SOURCE, "cleanup.policy": "compact,delete"})).fix
    late = {**SOURCE, "cleanup.policy": "compact", "min.compaction.lag.ms": "1000"}
    assert {finding.mark for finding in findings(late)} == {Mark.OK}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cleanup.policy", "compact,delete"),
        ("message.timestamp.type", "CreateTime"),
        ("min.insync.replicas", "1"),
        ("max.message.bytes", "500000"),
    ],
)
def test_a_changelog_set_otherwise_names_the_command(setting: str, value: str) -> None:
    found = worst(findings(changelog={**CHANGELOG, setting: value}))
    assert found.mark is Mark.WRONG
    assert f"{setting} is {value}" in found.text
    assert f"--entity-name {LOG} --add-config {setting}={CHANGELOG[setting]}" in found.fix


def test_a_changelog_of_another_shape() -> None:
    assert "2 copies, not 3" in worst(findings(changelog=CHANGELOG, replication=2)).text
    assert "more partitions than clicks" in worst(findings(changelog=CHANGELOG, partitions=5)).text
    assert findings(changelog=CHANGELOG, partitions=2)[-1].text.endswith("2 partitions, grows before they are counted")


def test_copies_that_are_behind_are_told_of_and_too_few_stop_the_counting() -> None:
    source = worst(findings(changelog=CHANGELOG, source_in_sync=2))
    assert (source.mark, source.text) == (Mark.WARN, "topic clicks: a partition has 2 of 3 copies in sync")
    behind = worst(findings(changelog=CHANGELOG, in_sync=2))
    assert (behind.mark, behind.text) == (Mark.WARN, f"changelog {LOG}: a partition has 2 of 3 copies in sync")
    too_few = worst(findings(changelog=CHANGELOG, in_sync=1))
    assert (too_few.mark, too_few.text) == (Mark.WRONG, f"changelog {LOG}: 1 of 3 copies in sync, 2 must be")


async def test_the_archive_is_written_synced_and_left_clean(tmp_path: Path) -> None:
    config = load(patched(f'sinks.archive.url = "file://{tmp_path}/archive"'))
    (found,) = await probe_archive(config)
    assert found.mark is Mark.OK
    assert list((tmp_path / "archive").iterdir()) == []


async def test_an_archive_that_fails_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(patched(f'sinks.archive.url = "file://{tmp_path}/archive"'))

    def fail(_url: str) -> None:
        raise SinkUnavailableError("hdfs", "connection refused")

    monkeypatch.setattr(check_probes, "_write_probe", fail)
    (found,) = await probe_archive(config)
    assert found.mark is Mark.UNREACHABLE
    assert "connection refused" in found.text
    assert "sinks.archive.url" in found.fix


async def test_no_archive_warns() -> None:
    (found,) = await probe_archive(load())
    assert found.mark is Mark.WARN


async def test_a_probe_that_hangs_is_given_up() -> None:
    gate = threading.Event()
    late = Finding(Mark.UNREACHABLE, "late")
    try:
        assert await in_thread(lambda: [Finding(Mark.OK, str(gate.wait(30)))], late, deadline_s=0.01) == [late]
    finally:
        gate.set()


async def test_a_bug_in_a_probe_is_raised() -> None:
    def fail() -> list[Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await in_thread(fail, Finding(Mark.WRONG, "late"))


def test_data_folder(tmp_path: Path) -> None:
    def probe(folder: Path) -> Finding:
        (found,) = asyncio.run(probe_data_dir(load(patched(f'app.data_dir = "{folder}"'))))
        return found

    assert probe(tmp_path).text.endswith("writable")
    assert probe(tmp_path / "a" / "b").text.endswith("will be made")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    wrong = probe(tmp_path / "file")
    assert wrong.mark is Mark.WRONG
    assert "app.data_dir" in wrong.fix
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        assert probe(tmp_path / "a").mark is Mark.WRONG


async def test_secret_files_must_be_readable(tmp_path: Path) -> None:
    assert await probe_secrets(load(MINIMAL)) == []
    config = load(
        patched(f'web = {{ token_file = "{tmp_path}/t", tls_cert = "{tmp_path}/c", tls_key = "{tmp_path}/k" }}')
    )
    assert [one.mark for one in await probe_secrets(config)] == [Mark.WRONG] * 3
    for name in "tck":
        (tmp_path / name).write_text("x")
    assert [one.mark for one in await probe_secrets(config)] == [Mark.OK] * 3
