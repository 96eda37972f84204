"""`recount produce` against a real broker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30


def recount(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "app", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )


def run_admin(bootstrap: str, topic: NewTopic) -> None:
    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            await admin.create_topics([topic])
        finally:
            await admin.close()

    asyncio.run(create())


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"produce-{uuid.uuid4().hex[:8]}"
    run_admin(kafka_bootstrap, NewTopic(name, num_partitions=2, replication_factor=1))
    return name


def records(bootstrap: str, topic: str) -> list[tuple[bytes | None, bytes]]:
    async def read() -> list[tuple[bytes | None, bytes]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            async with asyncio.timeout(DEADLINE_S):
                while any([await consumer.position(one) < ends[one] for one in partitions]):
                    for batch in (await consumer.getmany(timeout_ms=500)).values():
                        found += [(record.key, record.value) for record in batch]
            return found
        finally:
            await consumer.stop()

    return asyncio.run(read())


def test_every_line_becomes_one_record_with_its_bytes(kafka_bootstrap: str, topic: str, tmp_path: Path) -> None:
    lines = [b'{"page": "/%d"}' % number for number in range(5000)] + [b"not json", b"\xff\x00", b"  x  ", b"crlf\r"]
    file = tmp_path / "lines.ndjson"
    file.write_bytes(b"\n\n".join(lines))
    done = recount("produce", str(file), "--topic", topic, "--bootstrap-servers", kafka_bootstrap)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"sent 5004 records to {topic}".encode() in done.stdout
    found = records(kafka_bootstrap, topic)
    assert sorted(value for _, value in found) == sorted(lines)
    assert {key for key, _ in found} == {None}


def test_standard_input_with_keys(kafka_bootstrap: str, topic: str) -> None:
    stdin = b'{"user": {"id": 1}}\n{"user": {"id": 2}}\nbroken\n'
    options = ("--topic", topic, "--bootstrap-servers", kafka_bootstrap, "--key-field", "user.id")
    done = recount("produce", "-", *options, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1 without a key" in done.stdout
    assert {key for key, _ in records(kafka_bootstrap, topic)} == {b"1", b"2", None}


def test_a_large_record_passes_and_one_over_the_topics_limit_is_named(kafka_bootstrap: str) -> None:
    topic = f"produce-{uuid.uuid4().hex[:8]}"
    limits = {"max.message.bytes": str(6 << 20)}
    run_admin(kafka_bootstrap, NewTopic(topic, num_partitions=2, replication_factor=1, topic_configs=limits))
    large = b"x" * (5 << 20)
    options = ("--topic", topic, "--bootstrap-servers", kafka_bootstrap)
    assert recount("produce", "-", *options, stdin=large).returncode == 0
    assert [len(value) for _, value in records(kafka_bootstrap, topic)] == [len(large)]
    done = recount("produce", "-", *options, stdin=b"{}\n" + large + large[: 3 << 20] + b"\n")
    assert done.returncode == 2
    assert b"error: line 2: larger than " in done.stderr


def test_a_missing_topic_names_the_command_and_is_not_made(kafka_bootstrap: str) -> None:
    for _ in range(2):
        done = recount("produce", "-", "--topic", "nope", "--bootstrap-servers", kafka_bootstrap, stdin=b"{}\n")
        assert done.returncode == 2
        assert f"kafka-topics.sh --bootstrap-server {kafka_bootstrap} --create --topic nope".encode() in done.stderr


def test_kafka_away_exits_3() -> None:
    done = recount("produce", "-", "--topic", "t", "--bootstrap-servers", "127.0.0.1:1", stdin=b"{}\n")
    assert done.returncode == 3
    assert b"Kafka at 127.0.0.1:1" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_says_how_many_were_sent(kafka_bootstrap: str, topic: str, number: signal.Signals) -> None:
    command = ["-m", "app", "produce", "-", "--topic", topic, "--bootstrap-servers", kafka_bootstrap]
    with subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        os.write(process.stdin.fileno(), b"1\n2\n3\npart of a line")
        give_up = time.monotonic() + DEADLINE_S
        while len(records(kafka_bootstrap, topic)) < 3:
            assert time.monotonic() < give_up, "waited for three records"
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 130
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"sent 3 records" in process.stdout.read()
        assert process.stderr.read() == b""


def test_a_rate_is_kept(kafka_bootstrap: str, topic: str) -> None:
    began = time.monotonic()
    options = ("--topic", topic, "--bootstrap-servers", kafka_bootstrap, "--rate", "200")
    assert recount("produce", "-", *options, stdin=b"{}\n" * 301).returncode == 0
    assert time.monotonic() - began >= 1.5
