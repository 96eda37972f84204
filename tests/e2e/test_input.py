"""Bad input is tallied and archived; the worker never ends because of it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests import kafka
from tests.e2e.conftest import MakeScene
from tests.e2e.driver import send
from tests.e2e.input import Sent
from tests.kafka import run_apart

pytestmark = pytest.mark.e2e

KEYS = {"newline": "/a\nb", "tab": "/a\tb", "NUL": "/a\x00b", "too long": "x" * 4097}


def bad_records(at_ms: int) -> dict[str, tuple[bytes | None, str]]:
    """Name -> value and the class it must have in a table keyed by page."""

    def event(**fields: object) -> bytes:
        return json.dumps({"ts": at_ms, "page": "/a"} | fields).encode()

    whole = event()
    return {
        "without the key field": (json.dumps({"ts": at_ms}).encode(), "unkeyed"),
        "key of another type": (event(page=7), "unkeyed"),
        "key not UTF-8": (whole.replace(b"/a", b"/\xff"), "malformed"),
        "key a lone surrogate": (event(page="\ud800"), "unkeyed"),
        **{
            f"key with {name}": (event(page=key), "on_time" if len(key) < 10 else "unkeyed")
            for name, key in KEYS.items()
        },
        "time not a number": (event(ts="soon"), "malformed"),
        "time a fraction": (event(ts=at_ms + 0.5), "malformed"),
        "time beyond 64 bits": (event(ts=10**30), "malformed"),
        "time negative": (event(ts=-1), "malformed"),
        "no time": (b'{"page": "/a"}', "malformed"),
        "not JSON": (b"hello", "malformed"),
        "empty": (b"", "malformed"),
        "a tombstone": (None, "malformed"),
        "5 MB": (event(filler="x" * (5 << 20)), "on_time"),
        "5 MB of nothing": (b"\x00" * (5 << 20), "malformed"),
        "a number of 5,000 digits": (whole[:-1] + b', "n": ' + b"9" * 5000 + b"}", "malformed"),
        "a time of 5,000 digits": (b'{"page": "/a", "ts": ' + b"9" * 5000 + b"}", "malformed"),
        "64 deep": (whole[:-1] + b', "n": ' + b"[" * 63 + b"]" * 63 + b"}", "on_time"),
        "65 deep": (whole[:-1] + b', "n": ' + b"[" * 64 + b"]" * 64 + b"}", "malformed"),
        "100,000 deep": (whole[:-1] + b', "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed"),
        "two objects": (whole + whole, "malformed"),
        "UTF-16": (whole.decode().encode("utf-16"), "malformed"),
        "good": (whole, "on_time"),
    }


@pytest.mark.parametrize("order", ["together", "apart"])
def test_bad_records_are_tallied_and_archived_and_the_worker_goes_on(make_scene: MakeScene, order: str) -> None:
    scene = make_scene(partitions=1)
    (worker,) = scene.start("w1")
    pid = worker.pid
    at_ms = int(time.time() * 1000)
    records = bad_records(at_ms)
    sent = [Sent(0, at_ms, key, value) for value, _ in records.values() for key in (b"k", b"\xff\n\t\x00", None)]

    async def send_them() -> None:
        async with kafka.producer(scene.bootstrap, max_batch_size=11 << 20, max_request_size=12 << 20) as producer:
            for some in [sent] if order == "together" else [[one] for one in sent]:
                await send(producer, scene.topic, some)
                await asyncio.sleep(0)

    run_apart(send_them())
    expected = scene.verifier.check_live(worker)
    assert [one.value for one in expected.log[0]] == [one.value for one in sent]
    tallies: dict[str, int] = {}
    for _, kind in records.values():
        tallies[kind] = tallies.get(kind, 0) + 3
    assert expected.tallies("page_views") == tallies
    assert worker.running
    assert worker.pid == pid
    assert len(worker.entries("restored")) == 1, "restored once, at the start"
    scene.stop()
    scene.verifier.check_stopped(expected, repeats=False)
