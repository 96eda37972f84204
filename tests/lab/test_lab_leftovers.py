"""Whatever ends the caller, no process and no file of its lab stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab, LabError, ServerFailedError
from lab.process import Server, Supervisor
from lab.service import accepts
from tests.waiting import wait_for

CHILD = """
import json, sys
from pathlib import Path
from lab import Lab
lab = Lab(parent_directory=Path(sys.argv[1]))
kafka = lab.kafka()
print(json.dumps({"pids": [lab.supervisor_pid, kafka.brokers[0].pid], "directory": str(lab.directory),
                  "address": kafka.address}), flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path)
    yield running
    running.close([running.directory])


def sleeper(supervisor: Supervisor, folder: Path, script: str = "sleep 600") -> Server:
    return Server("sleeper", ["/bin/sh", "-c", script], folder, folder / "sleeper.log", supervisor, lambda: None)


def test_nothing_is_left_after_the_caller_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        said = json.loads(child.stdout.readline())
        assert all(alive(pid) for pid in said["pids"])
        assert Path(said["directory"]).is_dir()
        child.kill()
    wait_for("the lab's processes to end", lambda: not any(alive(pid) for pid in said["pids"]))
    assert list(tmp_path.iterdir()) == []
    assert not accepts(said["address"])


def test_servers_die_with_a_killed_supervisor(supervisor: Supervisor, tmp_path: Path) -> None:
    server = sleeper(supervisor, tmp_path)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    wait_for("the server to end", lambda: not alive(pid))
    with pytest.raises(LabError, match="supervisor process is gone"):
        _ = server.running


def test_a_fork_that_holds_the_pipe_does_not_keep_the_servers_alive(tmp_path: Path) -> None:
    script = f"""
import os, time
from pathlib import Path
from lab.process import Supervisor
supervisor = Supervisor(Path({str(tmp_path)!r}))
pid = supervisor.start(["/bin/sleep", "600"], supervisor.directory, {{}}, supervisor.directory / "log")
forked = os.fork()
if forked == 0:
    os.close(1), os.close(2)
    time.sleep(600)
print(supervisor.pid, pid, forked, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    supervisor, server, forked = (int(word) for word in done.stdout.split())
    try:
        wait_for("the supervisor and its server to end", lambda: not alive(supervisor) and not alive(server))
        assert alive(forked)
    finally:
        os.kill(forked, signal.SIGKILL)
    assert list(tmp_path.iterdir()) == []


def test_a_lab_that_closes_removes_its_folder(tmp_path: Path) -> None:
    with Lab(parent_directory=tmp_path) as lab:
        assert lab.directory.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_caller_that_failed_finds_the_logs_kept_and_the_data_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        with Lab(parent_directory=tmp_path) as lab:
            (lab.directory / "logs" / "server.log").write_text("why")
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    (folder,) = tmp_path.iterdir()
    assert [entry.name for entry in folder.iterdir()] == ["logs"]
    assert f"kept {folder / 'logs'}" in capsys.readouterr().err


def test_a_server_that_dies_while_it_starts_is_reported_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    server = sleeper(supervisor, tmp_path, "echo out of luck; exit 3")
    server.start(wait=False)
    wait_for("the server to end", lambda: not server.running)
    with pytest.raises(ServerFailedError, match=r"(?s)sleeper ended while.*out of luck"):
        server.wait_ready()


def test_a_server_deaf_to_sigterm_is_killed_at_the_deadline(supervisor: Supervisor, tmp_path: Path) -> None:
    server = sleeper(supervisor, tmp_path, "trap '' TERM; echo deaf; while :; do sleep 0.1; done")
    server.start(wait=False)
    wait_for("the trap to be set", lambda: "deaf" in (tmp_path / "sleeper.log").read_text())
    server.pause()
    server.stop(timeout_seconds=0.2)
    assert not server.running
