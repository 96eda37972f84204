"""`recount produce`: each non-empty line of a file becomes one record, its bytes untouched."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from app.cli_errors import ExitCode
from app.produce_send import Failure, Pace, Sender, Sent, stop
from app.transport.admin import admin_client, create_topic_command, quiet_client_log, topic_settings, topics_of
from domain.errors import ConfigError, DependencyError

CHUNK_BYTES = 1 << 20
BATCH_BYTES = 1 << 18
LINE_BYTES_MAX = 10 * 1024 * 1024
REQUEST_BYTES_MAX = LINE_BYTES_MAX + 64 * 1024  # a line of the greatest length, its key and the envelope
CHUNKS_AHEAD = 4
START_DEADLINE_S = 10.0


class Source(Protocol):
    """Unbuffered bytes: closing it never waits for a read in another thread."""

    def read(self, size: int, /) -> bytes | None: ...


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
    partitions, batch_bytes = await _look_up(job)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap_servers,
        enable_idempotence=True,
        max_batch_size=batch_bytes,
        max_request_size=REQUEST_BYTES_MAX,
    )
    began = time.monotonic()
    sender = Sender(producer, job.topic, partitions, job.key_field)
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            await producer.start()
        with _progress(job) as advance:
            await _send_all(job, sender, stopping, advance)
    except (KafkaError, TimeoutError) as err:
        raise DependencyError(f"Kafka at {job.bootstrap_servers}", repr(err), "look at the broker") from err
    finally:
        await stop(producer)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    sent = sender.sent
    if sent.failure is not None:
        raise _failed(job, sent, sent.failure)
    seconds = max(time.monotonic() - began, 1e-9)
    Console(highlight=False, soft_wrap=True).print(Text(_summary(job, sent, seconds, stopping.is_set())))
    return ExitCode.INTERRUPTED if stopping.is_set() else ExitCode.OK


def _summary(job: _Job, sent: Sent, seconds: float, interrupted: bool) -> str:
    ended = " before the interrupt" if interrupted else ""
    unkeyed = f", {sent.unkeyed} without a key" if sent.unkeyed else ""
    rate = sent.acknowledged / seconds
    return f"sent {sent.acknowledged} records to {job.topic}{ended}{unkeyed}: {seconds:.1f} s, {rate:.0f}/s"


async def _look_up(job: _Job) -> tuple[int, int]:
    """Partitions of the topic, and a batch size it takes. Raises `ConfigError` if there is no such topic."""
    async with admin_client(job.bootstrap_servers, START_DEADLINE_S, "--bootstrap-servers") as admin:
        topic = (await topics_of(admin)).get(job.topic)
        settings = await topic_settings(admin, [job.topic]) if topic else {}
    if topic is None:
        command = create_topic_command(job.bootstrap_servers, job.topic)
        raise ConfigError("--topic", f'no topic "{job.topic}"', f"make it: {command}")
    limit = int(settings[job.topic].get("max.message.bytes") or BATCH_BYTES)
    return topic.partitions, min(BATCH_BYTES, limit)


async def _send_all(job: _Job, sender: Sender, stopping: asyncio.Event, advance: Callable[[int, int], None]) -> None:
    pace, sent = Pace(job.rate), sender.sent
    async with contextlib.aclosing(_chunks(job.lines, stopping)) as chunks:
        async for first, lines in chunks:
            for number, line in enumerate(lines, first):
                if not line.rstrip(b"\r"):
                    continue
                if wait_s := pace.wait_s():
                    await sender.send_open()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stopping.wait(), wait_s)
                if stopping.is_set() or sent.failure is not None:
                    break
                await sender.add(number, line)
            await sender.send_open()
            advance(sum(map(len, lines)) + len(lines), sent.records)
            if stopping.is_set() or sent.failure is not None:
                break
    await sender.finish()


def _failed(job: _Job, sent: Sent, failure: Failure) -> ConfigError | DependencyError:
    one = failure.first == failure.last
    lines = f"line {failure.first}" if one else f"lines {failure.first} to {failure.last}"
    if isinstance(failure.error, MessageSizeTooLargeError):
        problem = f"larger than {job.topic} takes; {sent.acknowledged} records were sent"
        return ConfigError(lines, problem, "shorten it, or raise max.message.bytes of the topic")
    what = f"{lines} not acknowledged" if failure.last else "the last lines weren't acknowledged"
    name = "no answer" if isinstance(failure.error, TimeoutError) else type(failure.error).__name__
    reason = f"{what} ({name}), {sent.acknowledged} records were"
    return DependencyError(f"Kafka at {job.bootstrap_servers}", reason, "look at the broker")


async def _chunks(source: Source, stopping: asyncio.Event) -> AsyncGenerator[tuple[int, list[bytes]], None]:
    """Lines as they come, with the number of the first; ends early when `stopping` is set.

    A thread reads: a pipe may be silent for long, and an interrupt mustn't wait for its next line.
    """
    ready: asyncio.Queue[bytes | Exception] = asyncio.Queue()
    room = threading.Semaphore(CHUNKS_AHEAD)
    reading = (source, room, asyncio.get_running_loop(), ready)
    threading.Thread(target=_read, args=reading, name="produce-read", daemon=True).start()
    number, rest = 1, b""
    while (piece := await _next(ready, stopping)) is not None:
        if isinstance(piece, Exception):
            raise ConfigError("FILE", f"can't be read on ({piece})") from piece
        *lines, rest = (rest + piece).split(b"\n") if piece else (rest, b"")
        if max(len(rest), *map(len, lines), 0) > LINE_BYTES_MAX:
            number += next((at for at, line in enumerate(lines) if len(line) > LINE_BYTES_MAX), len(lines))
            raise ConfigError(f"line {number}", f"longer than {LINE_BYTES_MAX >> 20} MiB", "shorten or split it")
        yield number, lines
        number += len(lines)
        if not piece:
            return
        room.release()


def _read(
    source: Source,
    room: threading.Semaphore,
    loop: asyncio.AbstractEventLoop,
    ready: asyncio.Queue[bytes | Exception],
) -> None:
    piece: bytes | Exception = b"-"
    while isinstance(piece, bytes) and piece:
        room.acquire()
        try:
            piece = source.read(CHUNK_BYTES) or b""
        except (OSError, ValueError) as err:
            piece = err
        try:
            loop.call_soon_threadsafe(ready.put_nowait, piece)
        except RuntimeError:  # the loop has ended: nobody waits for more
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
