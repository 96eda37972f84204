"""`recount produce`: each non-empty line of a file becomes one record, its bytes untouched."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from app.cli_errors import ExitCode
from app.kafka_admin import admin_client, create_topic_command, quiet_client_log, topics_of
from domain.errors import ConfigError, DependencyError

CHUNK_BYTES = 1 << 18
LINE_BYTES_MAX = 10 * 1024 * 1024
REQUEST_BYTES_MAX = LINE_BYTES_MAX + 64 * 1024  # a line of the greatest length, its key and the envelope
CHUNKS_AHEAD = 4
START_DEADLINE_S = 10.0
NAP_S = 0.005  # shorter waits for the rate aren't worth a timer


class Source(Protocol):
    """Unbuffered bytes: closing it never waits for a read in another thread."""

    def read(self, size: int, /) -> bytes | None: ...


@dataclass(slots=True)
class Sent:
    """What was sent so far. `acknowledged` counts records Kafka has confirmed."""

    records: int = 0
    acknowledged: int = 0
    bytes: int = 0
    unkeyed: int = 0
    failure: tuple[int, BaseException] | None = None  # line number and error of the first record refused


def run_produce(
    file: str, *, topic: str, bootstrap_servers: str, rate: float | None = None, key_field: str | None = None
) -> int:
    """Send the lines of `file` (`-`: standard input) and print how many; returns the exit code.

    Raises `ConfigError` or `DependencyError`. SIGINT and SIGTERM end it after what was read is acknowledged.
    """
    quiet_client_log()
    with _open(file) as (lines, size):
        return asyncio.run(_produce(_Job(lines, size, topic, bootstrap_servers, rate, key_field)))


@dataclass(frozen=True, slots=True)
class _Job:
    lines: Source
    size: int | None
    topic: str
    bootstrap_servers: str
    rate: float | None
    key_field: str | None


@contextlib.contextmanager
def _open(file: str) -> Iterator[tuple[Source, int | None]]:
    if file == "-":
        yield getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), None
        return
    try:
        opened = Path(file).open("rb", buffering=0)  # noqa: SIM115 - closed below; only its opening may fail here
    except OSError as err:
        raise ConfigError(
            "FILE", f"{file} can't be read ({err.strerror})", "name a file, or - for standard input"
        ) from err
    with opened:
        yield opened, Path(file).stat().st_size


async def _produce(job: _Job) -> int:
    await _require_topic(job)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    sent, began = Sent(), time.monotonic()
    try:
        with _progress(job) as advance:
            await _send_all(job, sent, stop, advance)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    seconds = max(time.monotonic() - began, 1e-9)
    if sent.failure is not None:
        raise _failed(job, sent)
    Console(highlight=False, soft_wrap=True).print(Text(_summary(job, sent, seconds, stop.is_set())))
    return ExitCode.INTERRUPTED if stop.is_set() else ExitCode.OK


def _summary(job: _Job, sent: Sent, seconds: float, interrupted: bool) -> str:
    ended = " before the interrupt" if interrupted else ""
    unkeyed = f", {sent.unkeyed} without a key" if sent.unkeyed else ""
    rate = sent.acknowledged / seconds
    return f"sent {sent.acknowledged} records to {job.topic}{ended}{unkeyed}: {seconds:.1f} s, {rate:.0f}/s"


async def _require_topic(job: _Job) -> None:
    async with admin_client(job.bootstrap_servers, START_DEADLINE_S, "--bootstrap-servers") as admin:
        topics = await topics_of(admin)
    if job.topic not in topics:
        raise ConfigError(
            "--topic", f'no topic "{job.topic}"', f"make it: {create_topic_command(job.bootstrap_servers, job.topic)}"
        )


async def _send_all(job: _Job, sent: Sent, stop: asyncio.Event, advance: Callable[[int, int], None]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap_servers,
        enable_idempotence=True,
        linger_ms=5,
        max_batch_size=CHUNK_BYTES,
        max_request_size=REQUEST_BYTES_MAX,
    )
    try:
        await producer.start()
        pace = _Pace(job.rate)
        async for first, lines in _chunks(job.lines, stop):
            for number, line in enumerate(lines, first):
                if stop.is_set() or sent.failure is not None:
                    break
                if not line.rstrip(b"\r"):
                    continue
                await pace.wait(stop)
                await _send(producer, job, sent, number, line)
            advance(sum(map(len, lines)) + len(lines), sent.records)
            if stop.is_set() or sent.failure is not None:
                break
        await producer.flush()
    finally:
        await producer.stop()


async def _send(producer: Any, job: _Job, sent: Sent, number: int, line: bytes) -> None:
    key = None
    if job.key_field is not None:
        key = key_of(line, job.key_field)
        sent.unkeyed += key is None

    def settle(future: asyncio.Future[Any]) -> None:
        error = future.exception()
        if error is None:
            sent.acknowledged += 1
        elif sent.failure is None:
            sent.failure = (number, error)

    try:
        future = await producer.send(job.topic, line, key=key)
    except (KafkaError, OSError) as err:
        sent.failure = sent.failure or (number, err)
        return
    sent.records += 1
    sent.bytes += len(line)
    future.add_done_callback(settle)


def key_of(line: bytes, field: str) -> bytes | None:
    """The Kafka key from a dotted JSON field: text as it is, anything else as JSON; None if there is none."""
    try:
        here = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    for name in field.split("."):
        if not isinstance(here, dict) or here.get(name) is None:
            return None
        here = here[name]
    return here.encode() if isinstance(here, str) else msgspec.json.encode(here)


def _failed(job: _Job, sent: Sent) -> ConfigError | DependencyError:
    assert sent.failure is not None
    line, error = sent.failure
    before = f"{sent.acknowledged} records were"
    if isinstance(error, MessageSizeTooLargeError):
        return ConfigError(
            f"line {line}",
            f"larger than {job.topic} takes; {before} sent",
            "shorten it, or raise max.message.bytes of the topic",
        )
    reason = f"line {line} wasn't acknowledged ({type(error).__name__}), {before}"
    return DependencyError(f"Kafka at {job.bootstrap_servers}", reason, "look at the broker")


class _Pace:
    """Spreads records evenly over time."""

    def __init__(self, rate: float | None) -> None:
        self._gap_s = 0.0 if rate is None else 1 / rate
        self._due = time.monotonic()

    async def wait(self, stop: asyncio.Event) -> None:
        if not self._gap_s:
            return
        wait_s = self._due - time.monotonic()
        self._due += self._gap_s
        if wait_s > NAP_S:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)


async def _chunks(source: Source, stop: asyncio.Event) -> Any:
    """Lines as they come, with the number of the first; ends early when `stop` is set.

    A thread reads: a pipe may be silent for long, and an interrupt mustn't wait for its next line.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[bytes | BaseException] = asyncio.Queue(CHUNKS_AHEAD)

    def read() -> None:
        with contextlib.suppress(CancelledError, RuntimeError):  # the loop has ended: nobody waits for more
            while True:
                try:
                    piece: bytes | BaseException = source.read(CHUNK_BYTES) or b""
                except (OSError, ValueError) as err:
                    piece = err
                asyncio.run_coroutine_threadsafe(ready.put(piece), loop).result()
                if not piece or isinstance(piece, BaseException):
                    return

    threading.Thread(target=read, name="produce-read", daemon=True).start()
    number, rest = 1, b""
    while (piece := await _next(ready, stop)) is not None:
        if isinstance(piece, BaseException):
            raise ConfigError("FILE", f"can't be read on ({piece})") from piece
        *lines, rest = (rest + piece).split(b"\n") if piece else (rest, b"")
        if max(len(rest), *map(len, lines), 0) > LINE_BYTES_MAX:
            number += next((at for at, line in enumerate(lines) if len(line) > LINE_BYTES_MAX), len(lines))
            raise ConfigError(f"line {number}", f"longer than {LINE_BYTES_MAX >> 20} MiB", "shorten or split it")
        yield number, lines
        number += len(lines)
        if not piece:
            return


async def _next(ready: asyncio.Queue[Any], stop: asyncio.Event) -> Any:
    getting, stopping = asyncio.ensure_future(ready.get()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((getting, stopping), return_when=asyncio.FIRST_COMPLETED)
        return getting.result() if getting.done() and not stop.is_set() else None
    finally:
        getting.cancel()
        stopping.cancel()


@contextlib.contextmanager
def _progress(job: _Job) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.fields[records]} records"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("send", total=job.size, records=0)
        yield lambda size, records: bar.update(task, advance=size, records=records)
