"""Probes of `recount check` that need no Kafka: archive, data folder, secrets."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.config import Config, read_secret, web_token
from domain.errors import ConfigError, RecountError

DEADLINE_S = 10.0


class Mark(StrEnum):
    OK = "ok"
    WARN = "warn"
    WRONG = "wrong"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Finding:
    mark: Mark
    text: str
    fix: str = ""


async def in_thread(work: Callable[[], list[Finding]], late: Finding, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """Run blocking `work`; after the deadline report `late`. The thread is left behind: it may hang for good."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[Finding]] = loop.create_future()

    def settle(result: list[Finding] | Exception) -> None:
        if done.done():
            return
        if isinstance(result, Exception):
            done.set_exception(result)
        else:
            done.set_result(result)

    def run() -> None:
        result: list[Finding] | Exception
        try:
            result = work()
        except Exception as err:  # noqa: BLE001 - raised again by the waiting caller
            result = err
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="check-probe", daemon=True).start()
    try:
        async with asyncio.timeout(deadline_s):
            return await done
    except TimeoutError:
        return [late]


async def probe_archive(config: Config) -> list[Finding]:
    """Write, sync, publish and delete a file where the archive will be."""
    archive = config.sinks.archive
    if archive is None:
        return [Finding(Mark.WARN, "no [sinks.archive]: events aren't kept", "counts can't be proven or repaired")]
    fix = "start it, or correct sinks.archive.url"
    late = Finding(Mark.UNREACHABLE, f"archive {archive.url}: no answer within {DEADLINE_S:g} s", fix)

    def work() -> list[Finding]:
        try:
            _write_probe(archive.url)
        except (OSError, RecountError, RuntimeError) as err:
            return [Finding(Mark.UNREACHABLE, f"archive {archive.url}: {_short(err)}", fix)]
        return [Finding(Mark.OK, f"archive {archive.url}: writes, syncs and renames")]

    return await in_thread(work, late)


def _write_probe(url: str) -> None:
    from sinks.archive.fs import open_file_system

    files, root = open_file_system(url)
    being_written, published = (f"{root}/_check-{uuid.uuid4().hex}{end}" for end in ("", ".done"))
    files.mkdirs(root)
    try:
        handle = files.create(being_written)
        try:
            handle.write(b"check\n")
            handle.sync()
            handle.close()
        except BaseException:
            handle.abort()
            raise
        files.rename(being_written, published)
    finally:
        for path in (being_written, published):
            files.delete(path)


async def probe_data_dir(config: Config) -> list[Finding]:
    """The worker must be able to write there; nothing is made."""
    data_dir = config.app.data_dir

    def work() -> list[Finding]:
        fix = "make it writable for this user, or set app.data_dir"
        try:
            note = _try_folder(data_dir)
        except OSError as err:
            return [Finding(Mark.WRONG, f"app.data_dir {data_dir}: {_short(err)}", fix)]
        return [Finding(Mark.OK, f"app.data_dir {data_dir}: {note}")]

    return await in_thread(work, Finding(Mark.WRONG, f"app.data_dir {data_dir}: hangs", "look at the disk"))


def _try_folder(folder: Path) -> str:
    if folder.exists():
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".check-") as file:
            file.write(b"check")
            file.flush()
            os.fsync(file.fileno())
        return "writable"
    parent = next(one for one in folder.parents if one.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(0, f"doesn't exist and can't be made in {parent}")
    return "will be made"


async def probe_secrets(config: Config) -> list[Finding]:
    """Files the configuration names for secrets and TLS must be readable here."""

    def work() -> list[Finding]:
        findings = []
        for setting, read in _secret_files(config).items():
            try:
                read()
            except ConfigError as err:
                findings.append(Finding(Mark.WRONG, f"{err.setting}: {err.problem}", err.fix))
            else:
                findings.append(Finding(Mark.OK, f"{setting}: readable"))
        return findings

    return await in_thread(work, Finding(Mark.WRONG, "secret files: reading hangs", "look at the disk"))


def _secret_files(config: Config) -> dict[str, Callable[[], object]]:
    web, state = config.web, config.state
    files: dict[str, Callable[[], object]] = {}
    if web.token_file is not None:
        files["web.token_file"] = lambda: web_token(config)
    if web.tls_cert is not None:
        files["web.tls_cert"] = lambda: read_secret("web.tls_cert", None, web.tls_cert)
    if web.tls_key is not None:
        files["web.tls_key"] = lambda: read_secret("web.tls_key", None, web.tls_key)
    if state.password_file is not None:
        files["state.password_file"] = lambda: read_secret("state.password_file", None, state.password_file)
    return files


def _short(err: Exception) -> str:
    return (err.strerror if isinstance(err, OSError) else None) or str(err) or type(err).__name__
