"""Jars of the servers: fetched once with Maven, checked against the committed list, kept outside the repository.

A complete set lies in `<cache>/<server>-<digest of its list>/`, so a changed list never meets an old set.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import tools
from lab.errors import JarMismatchError, LabError

HERE = Path(__file__).parent
LIST = HERE / "jars.sha256"
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
MARKER = "complete.json"


@dataclass(frozen=True)
class JarSet:
    server: str
    title: str
    megabytes: int


JAR_SETS = {
    jar_set.server: jar_set
    for jar_set in (
        JarSet("kafka", "Kafka 4.3.1", 55),
        JarSet("hdfs", "HDFS 3.5.0", 68),
        JarSet("hbase", "HBase 2.6.4", 127),
    )
}


def cache_directory() -> Path:
    """Return where the lab keeps what is made once: `RECOUNT_LAB_CACHE`, or `~/.cache/recount-lab`."""
    set_by_user = os.environ.get("RECOUNT_LAB_CACHE")
    return Path(set_by_user) if set_by_user else Path.home() / ".cache" / "recount-lab"


def ensure(server: str, list_path: Path = LIST) -> Path:
    """Return the folder of a server's jars (`lib` in it), fetched and checked if it is not there yet.

    Safe to call from several processes at once. Raises `JarMismatchError`, naming the jars.
    """
    expected = read_list(list_path)[server]
    digest = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()[:12]
    home = cache_directory() / f"{server}-{digest}"
    if _is_complete(home, expected):
        return home
    with locked(cache_directory() / f"{server}.lock"):
        if not _is_complete(home, expected):  # another process may have fetched it while we waited
            shutil.rmtree(home, ignore_errors=True)
            _fetch_into(home, server, expected)
    return home


def lock(list_path: Path = LIST) -> None:
    """Write the list anew from what Maven delivers now."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for server in sorted(JAR_SETS):
            lib = Path(temporary) / server
            _fetch(server, lib)
            lines += [f"{digest}  {server}/{name}\n" for name, digest in sorted(_digests(lib).items())]
    list_path.write_text("".join(lines))


def read_list(list_path: Path) -> dict[str, dict[str, str]]:
    """Return jar name -> sha256 for each server."""
    listed: dict[str, dict[str, str]] = {server: {} for server in JAR_SETS}
    for line in list_path.read_text().splitlines():
        digest, path = line.split()
        server, _, name = path.partition("/")
        listed.setdefault(server, {})[name] = digest
    return listed


def verify(server: str, lib: Path, expected: dict[str, str]) -> None:
    """Raise `JarMismatchError` unless the folder holds exactly the listed jars with the listed content."""
    found = _digests(lib)
    problems = [f"{server}/{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{server}/{name} is not in the list" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{server}/{name} has sha256 {found[name]}, the list says {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    if problems:
        advice = "delete the jar from Maven's local repository to fetch it again; after a change of lab/poms: lab lock"
        raise JarMismatchError(f"jars differ from lab/{LIST.name}: {'; '.join(problems)} ({advice})")


def progress(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; the kernel frees it when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_into(home: Path, server: str, expected: dict[str, str]) -> None:
    # Under another name until it is verified: a crash in between leaves no half a set under the final one.
    with tempfile.TemporaryDirectory(prefix=f"{server}-", dir=home.parent) as temporary:
        fetched = Path(temporary) / "set"
        lib = fetched / "lib"
        _fetch(server, lib)
        verify(server, lib, expected)
        (fetched / MARKER).write_text(json.dumps(_sizes(lib)))
        fetched.rename(home)


def _fetch(server: str, lib: Path) -> None:
    jar_set = JAR_SETS[server]
    maven = tools.maven()
    tools.java()
    progress(f"fetching {jar_set.title} jars with Maven, about {jar_set.megabytes} MB, once …")
    lib.mkdir(parents=True)
    command = [maven, "-B", "-q", "-f", str(HERE / "poms" / f"{server}.xml"), COPY_GOAL]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={lib}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(f"  | {line}" for line in done.stdout.splitlines()[-20:])
        raise LabError(f"Maven could not fetch the {jar_set.title} jars:\n{last}")
    progress(f"{jar_set.title} jars are here")


def _is_complete(home: Path, expected: dict[str, str]) -> bool:
    # Names and sizes only: hashing it all costs more than a server start, and was done before the rename.
    try:
        recorded = json.loads((home / MARKER).read_text())
        return bool(recorded == _sizes(home / "lib") and recorded.keys() == expected.keys())
    except (OSError, ValueError):
        return False


def _sizes(lib: Path) -> dict[str, int]:
    return {jar.name: jar.stat().st_size for jar in lib.iterdir()}


def _digests(lib: Path) -> dict[str, str]:
    digests = {}
    for jar in lib.iterdir():
        with jar.open("rb") as content:
            digests[jar.name] = hashlib.file_digest(content, "sha256").hexdigest()
    return digests
