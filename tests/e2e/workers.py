"""Workers as real processes: started, killed, stopped, asked."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 10.0  # promised
GRACE_S = 20.0  # to see by how much a stop missed it


def get(url: str, path: str, timeout_s: float = 10.0) -> Any:
    """The JSON answer. Raises OSError when there is none."""
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=timeout_s) as answer:
            return json.load(answer)
    except http.client.HTTPException as err:  # killed in the middle of its answer
        raise ConnectionError(str(err)) from err


class Worker:
    """One instance. Its log goes on over restarts; `entries` shows that of the last start."""

    def __init__(self, name: str, config: Path, folder: Path, module: str = "app") -> None:
        self.name = name
        self._module = module
        self._config = config
        self.bind = "127.0.0.1:0"
        self.log_path = folder / f"{name}.log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.watched = True  # by the monitor

    def start(self, *arguments: str) -> None:
        """Start the process; it isn't waited for."""
        assert not self.running, f"{self.name} runs already"
        env = {
            **os.environ,
            "RECOUNT__APP__INSTANCE": self.name,
            "RECOUNT__WEB__BIND": self.bind,
            "PYTHONFAULTHANDLER": "1",
        }
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, "worker", "--config", str(self._config), *arguments],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves; waits for its start."""

        def served() -> str | None:
            assert self.running, f"{self.name} ended:\n{self.log()[-3000:]}"
            return next((entry["web"] for entry in self.entries("worker up")), None)

        return wait_for(f"{self.name} to be up", served, START_S)

    def get(self, path: str) -> Any:
        return get(self.url, path)

    def wait_ready(self) -> None:
        url = self.url

        def ready() -> bool:
            assert self.running, f"{self.name} ended:\n{self.log()[-3000:]}"
            try:
                return bool(get(url, "/readyz")["status"] == "ready")
            except urllib.error.HTTPError:
                return False

        wait_for(f"{self.name} to be ready", ready, START_S)

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def committed(self) -> dict[int, int]:
        """How far every partition is committed, as this worker tells it of all; empty when it can't."""
        try:
            found = self.get("/api/v1/partitions")
        except OSError:
            return {}
        return {one["partition"]: one["next_offset"] for one in found["partitions"]} if found["complete"] else {}

    def retried(self) -> list[str]:
        """Why calls to sinks had to be tried again since the last start."""
        return [one["reason"] for one in self.entries("sink unavailable, retrying")]

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self.running, f"{self.name} ended before it was killed:\n{self.log()[-3000:]}"
        self.signal(signal.SIGKILL)
        assert self.wait(GRACE_S) == -signal.SIGKILL

    def terminate(self) -> None:
        """SIGTERM; it must end cleanly within its promise."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.wait(GRACE_S)
        took_s = time.monotonic() - began
        assert code == 0, f"{self.name} exited {code}:\n{self.log()[-3000:]}"
        assert took_s < STOP_S, f"{self.name} took {took_s:.1f} s to stop:\n{self.log()[-3000:]}"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, deadline_s: float) -> int:
        assert self._process is not None
        return self._process.wait(deadline_s)

    def close(self) -> None:
        """However it stands, it is gone after this."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait(GRACE_S)

    def log(self) -> str:
        """What the last start logged."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def entries(self, message: str) -> list[dict[str, Any]]:
        found = []
        for line in self.log().splitlines():
            if line.startswith("{") and line.endswith("}"):
                entry = json.loads(line)
                if entry.get("message") == message:
                    found.append(entry)
        return found
