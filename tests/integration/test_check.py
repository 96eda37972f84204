"""`recount check` against a real broker."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner

from app.cli import app

SOURCE = {"message.timestamp.after.max.ms": "3600000"}
CHANGELOG = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}


def create(bootstrap: str, *topics: NewTopic) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await admin.create_topics(list(topics))
        finally:
            await admin.close()

    asyncio.run(run())


@pytest.fixture
def name() -> str:
    return f"check-{uuid.uuid4().hex[:8]}"


def check(tmp_path: Path, bootstrap: str, name: str, replication: int = 1) -> tuple[int, str]:
    path = tmp_path / "recount.toml"
    path.write_text(f"""
[app]
id = "a"
data_dir = "{tmp_path}/data"
[kafka]
bootstrap_servers = "{bootstrap}"
replication = {replication}
min_insync_replicas = 1
[[topics]]
name = "{name}"
event_time = {{ format = "kafka" }}
[[tables]]
name = "t"
topic = "{name}"
key = ["page"]
[sinks.archive]
""")
    result = CliRunner().invoke(app, ["check", "--config", str(path)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_all_is_there(kafka_bootstrap: str, tmp_path: Path, name: str) -> None:
    create(kafka_bootstrap, NewTopic(name, 3, 1, topic_configs=SOURCE))
    code, out = check(tmp_path, kafka_bootstrap, name)
    assert code == 0, out
    assert "1 broker" in out
    assert f"✓ topic {name}: 3 partitions" in out
    assert f"✓ changelog a-{name}-changelog: will be made" in out
    assert "writes, syncs and renames" in out
    create(kafka_bootstrap, NewTopic(f"a-{name}-changelog", 3, 1, topic_configs=CHANGELOG))
    code, out = check(tmp_path, kafka_bootstrap, name)
    assert code == 0, out
    assert f"✓ changelog a-{name}-changelog: 3 partitions" in out


def test_a_missing_topic_is_named_and_not_made(kafka_bootstrap: str, tmp_path: Path, name: str) -> None:
    for _ in range(2):
        code, out = check(tmp_path, kafka_bootstrap, name)
        assert code == 2
        assert f"✗ topic {name}: doesn't exist; make it: kafka-topics.sh" in out


def test_settings_that_break_the_promise_are_named(kafka_bootstrap: str, tmp_path: Path, name: str) -> None:
    wrong = {"cleanup.policy": "compact,delete"}
    unlimited = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    create(
        kafka_bootstrap,
        NewTopic(name, 1, 1, topic_configs=unlimited),
        NewTopic(f"a-{name}-changelog", 2, 1, topic_configs=wrong),
    )
    code, out = check(tmp_path, kafka_bootstrap, name)
    assert code == 2
    assert f"! topic {name}: producers may date records far into the future" in out
    assert "cleanup.policy is compact,delete, not compact" in out
    assert "message.timestamp.type is CreateTime, not LogAppendTime" in out
    assert f"more partitions than {name}" in out


def test_more_copies_than_brokers(kafka_bootstrap: str, tmp_path: Path, name: str) -> None:
    create(kafka_bootstrap, NewTopic(name, 1, 1, topic_configs=SOURCE))
    code, out = check(tmp_path, kafka_bootstrap, name, replication=3)
    assert code == 2
    assert "set kafka.replication = 1" in out


def test_kafka_away(tmp_path: Path, name: str) -> None:
    code, out = check(tmp_path, "127.0.0.1:1", name)
    assert code == 3
    assert "✗ Kafka at 127.0.0.1:1: can't be reached; start it, or correct kafka.bootstrap_servers" in out
