"""`python -m lab` and `scripts/bootstrap` as a person runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import jars
from lab.service import accepts

ROOT = Path(__file__).parents[2]
BOOTSTRAP_NEEDS = ("bash", "dirname", "readlink", "id")


def run(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | (env or {}), capture_output=True, text=True, check=False, timeout=150
    )


def lab(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "lab", *arguments, env=env)


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    """The environment of a person with a cache of their own that has the jars already."""
    for server in jars.JAR_SETS:
        home = jars.ensure(server)
        (tmp_path / home.name).symlink_to(home)
    return {"RECOUNT_LAB_CACHE": str(tmp_path), "TMPDIR": str(tmp_path)}


def test_a_lab_comes_up_answers_and_goes_down(apart: dict[str, str], tmp_path: Path) -> None:
    assert lab(apart, "status").returncode == 1
    up = lab(apart, "up", "kafka")
    assert up.returncode == 0, up.stderr
    name, address = up.stdout.split()
    try:
        assert name == "kafka"
        assert accepts(address)
        status = lab(apart, "status")
        assert (status.returncode, f"serving at {address}" in status.stdout) == (0, True)
        assert "Kafka Server started" in lab(apart, "logs", "kafka-1").stdout
        assert "a lab is up already" in lab(apart, "up", "kafka").stderr
    finally:
        down = lab(apart, "down")
    assert down.stdout == "the lab is down\n"
    assert not accepts(address)
    assert not list(tmp_path.glob("recount-lab-*"))
    assert lab(apart, "down").stdout == "no lab was up\n"


def test_a_server_brings_those_it_needs(apart: dict[str, str], tmp_path: Path) -> None:
    up = lab(apart, "up", "hbase", "redis")
    assert up.returncode == 0, up.stderr
    try:
        addresses = dict(line.split() for line in up.stdout.splitlines())
        assert list(addresses) == ["hdfs", "hbase", "redis"]
        status = lab(apart, "status")
        assert status.returncode == 0
        assert [line for line in status.stdout.splitlines() if " serving at " in line] == [
            f"{name:8} serving at {address}" for name, address in addresses.items()
        ]
        assert "Ready to accept connections" in lab(apart, "logs", "redis").stdout
    finally:
        down = lab(apart, "down")
    assert down.stdout == "the lab is down\n"
    assert not any(accepts(address.rpartition("/")[2]) for address in addresses.values())
    assert not list(tmp_path.glob("recount-lab-*"))


def test_an_unknown_server_is_refused(apart: dict[str, str]) -> None:
    done = lab(apart, "up", "oracle")
    assert done.returncode == 1
    assert "the lab has no oracle; it has kafka, hdfs, hbase, redis" in done.stderr


def bootstrap(path: str, *tools: str) -> subprocess.CompletedProcess[str]:
    return run("/bin/bash", "scripts/bootstrap", *tools, env={"PATH": path})


def test_bootstrap_names_the_packages_where_it_cannot_install(tmp_path: Path) -> None:
    for program in BOOTSTRAP_NEEDS:
        found = Path("/usr/bin", program)
        (tmp_path / program).symlink_to(found if found.exists() else Path("/bin", program))
    done = bootstrap(str(tmp_path), "java", "maven", "redis")
    assert done.returncode == 2
    packages = "openjdk-17-jre-headless maven redis-server"
    line = f"programs are missing; install the packages {packages} (Debian: apt-get install {packages})"
    assert done.stderr == f"bootstrap: {line}\n"


def test_bootstrap_has_nothing_to_do_where_all_is_there() -> None:
    started = time.perf_counter()
    done = bootstrap(os.environ["PATH"], "java", "maven")
    took_seconds = time.perf_counter() - started
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert took_seconds < 1


def test_bootstrap_refuses_a_word_it_does_not_know() -> None:
    done = bootstrap(os.environ["PATH"], "jvaa")
    assert done.returncode == 64
    assert "unknown tool jvaa" in done.stderr
