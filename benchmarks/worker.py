"""A real worker process over a preloaded topic: CPU seconds from its start to the last record counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    records: int
    cpu_s: float
    wall_s: float
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Sinks:
    archive: str | None = None
    thrift: str | None = None

    def config(self) -> str:
        archive = "" if self.archive is None else f'[sinks.archive]\nurl = "{self.archive}"\n'
        return archive + ("" if self.thrift is None else f'[sinks.hbase]\nthrift = ["{self.thrift}"]\n')


def write_config(
    folder: Path, bootstrap: str, topic: str, app: str, sinks: Sinks, port: int, session_s: int = 10
) -> Path:
    text = f"""
[app]
id = "{app}"
instance = "bench"
data_dir = "{folder}/data"
[kafka]
bootstrap_servers = "{bootstrap}"
session_timeout = "{session_s}s"
replication = 1
min_insync_replicas = 1
[[topics]]
name = "{topic}"
event_time = {{ field = "ts", format = "epoch_ms" }}
[[tables]]
name = "page_views_{app}"
topic = "{topic}"
key = ["page"]
{sinks.config()}
[web]
bind = "127.0.0.1:{port}"
"""
    path = folder / f"{app}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run_worker(config: Path, port: int, records: int, deadline_s: float = DEADLINE_S) -> Run:
    """Start a worker, wait until `records` are counted and in every sink, stop it."""
    with (config.with_suffix(".log")).open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "app", "worker", "--config", str(config)], stdout=log, stderr=log
        )
    began = time.monotonic()
    try:
        while _counted(port) < records:
            if worker.poll() is not None or time.monotonic() - began > deadline_s:
                log_tail = config.with_suffix(".log").read_text(encoding="utf-8")[-4000:]
                raise SystemExit(f"not counted (exit code {worker.poll()}, deadline {deadline_s:g} s):\n{log_tail}")
            time.sleep(min(1.0, deadline_s / 6000))
        return Run(records, cpu_seconds(worker.pid), time.monotonic() - began, _rss_mib(worker.pid))
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(20)


def _counted(port: int) -> int:
    """Records counted and in every sink; -1 until the worker owns every partition."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/partitions", timeout=2) as answer:
            found: dict[str, Any] = msgspec.json.decode(answer.read())
    except (urllib.error.URLError, OSError):
        return -1
    rows = found["partitions"]
    if not rows or not found["complete"] or any(row["state"] == "restoring" for row in rows):
        return -1
    return sum(_done(row) for row in rows)


def _done(row: dict[str, Any]) -> int:
    """Records of a partition counted, archived and in HBase, as far as it has those."""
    reached = (row[name] for name in ("next_offset", "archive_next_offset", "hbase_next_offset"))
    return min(int(one) for one in reached if one is not None)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
