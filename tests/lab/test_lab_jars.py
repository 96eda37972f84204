from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path

import pytest

from lab import JarMismatchError, LabError, MissingToolError, jars, tools

GOOD = b"a jar"
FAKE_MAVEN = """\
#!/bin/sh
echo called >>"{calls}"
for argument; do case $argument in -DoutputDirectory=*) out=${{argument#*=}} ;; esac; done
printf '%s' "$JAR_CONTENT" >"$out/one.jar"
exit "${{MAVEN_STATUS:-0}}"
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that writes one.jar, an empty cache, and the file that notes Maven's calls."""
    programs, log = tmp_path / "bin", tmp_path / "calls"
    programs.mkdir()
    (programs / "mvn").write_text(FAKE_MAVEN.format(calls=log))
    (programs / "mvn").chmod(0o755)
    log.touch()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECOUNT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAR_CONTENT", GOOD.decode())
    return log


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text(f"{hashlib.sha256(GOOD).hexdigest()}  kafka/one.jar\n")
    return path


def times_called(calls: Path) -> int:
    return len(calls.read_text().splitlines())


def test_jars_are_fetched_once(calls: Path, listed: Path) -> None:
    first = jars.ensure("kafka", listed)
    assert (first / "lib" / "one.jar").read_bytes() == GOOD
    assert jars.ensure("kafka", listed) == first
    assert times_called(calls) == 1


def test_a_jar_that_differs_from_the_list_is_named_and_not_cached(
    calls: Path, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAR_CONTENT", "another jar")
    with pytest.raises(JarMismatchError, match=r"kafka/one\.jar has sha256 \w+, the list says"):
        jars.ensure("kafka", listed)
    assert [path.name for path in jars.cache_directory().iterdir()] == ["kafka.lock"]
    monkeypatch.setenv("JAR_CONTENT", GOOD.decode())
    jars.ensure("kafka", listed)


def test_missing_and_unlisted_jars_are_named(tmp_path: Path) -> None:
    (tmp_path / "extra.jar").write_bytes(GOOD)
    with pytest.raises(JarMismatchError, match=r"kafka/one\.jar is missing; kafka/extra\.jar is not in the list"):
        jars.verify("kafka", tmp_path, {"one.jar": "0" * 64})


def test_a_set_with_a_truncated_jar_is_fetched_again(calls: Path, listed: Path) -> None:
    home = jars.ensure("kafka", listed)
    (home / "lib" / "one.jar").write_bytes(b"a")
    assert (jars.ensure("kafka", listed) / "lib" / "one.jar").read_bytes() == GOOD
    assert times_called(calls) == 2


def test_callers_at_the_same_time_fetch_once(calls: Path, listed: Path) -> None:
    threads = [threading.Thread(target=jars.ensure, args=("kafka", listed)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times_called(calls) == 1


def test_a_failing_maven_is_reported(calls: Path, listed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAVEN_STATUS", "1")
    with pytest.raises(LabError, match=r"Maven could not fetch the Kafka 4\.3\.1 jars"):
        jars.ensure("kafka", listed)


def test_the_committed_list_covers_every_server_and_nothing_else() -> None:
    listed = jars.read_list(jars.LIST)
    assert listed.keys() == jars.JAR_SETS.keys()
    assert all(names for names in listed.values())
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for names in listed.values() for digest in names.values())


@pytest.mark.parametrize(
    ("find", "line"),
    [
        (tools.java, "java is missing: apt-get install openjdk-17-jre-headless (or run scripts/bootstrap)"),
        (tools.maven, "Maven (mvn) is missing: apt-get install maven (or run scripts/bootstrap)"),
        (tools.redis_server, "redis-server is missing: apt-get install redis-server (or run scripts/bootstrap)"),
    ],
)
def test_a_missing_program_is_named_with_its_package(
    find: object, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert callable(find)
    with pytest.raises(MissingToolError) as raised:
        find()
    assert str(raised.value) == line


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(0o755)
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.2"\n')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(MissingToolError, match=r"Java 17 is needed, .* is Java 11: apt-get install"):
        tools.java()
