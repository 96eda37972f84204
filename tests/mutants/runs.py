"""One pytest run in a tree of its own, and what came of each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.mutants.mutant import place_of

ROOT = Path(__file__).parents[2]
FAILED = 1  # pytest's exit code: some tests ran and failed
OUTPUT_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Run:
    """`failures` by (file, function): the last line of what the assertion, or the error in the test, said."""

    code: int | None  # None: it didn't end in time
    output: str
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)
    passed: frozenset[tuple[str, str]] = frozenset()


def copy_tree(target: Path) -> None:
    """What git knows of, or would be told of, as it stands in the working tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # else deleted and not told yet
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run_tests(tree: Path, tests: Sequence[str], servers: Mapping[str, str], limit_s: float, *options: str) -> Run:
    """Its whole process group is gone when it returns."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    process = subprocess.Popen(
        [*command, *options, *tests],
        cwd=tree,
        env={**os.environ, **servers},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    code: int | None
    try:
        output, _ = process.communicate(timeout=limit_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        code, output = None, ""
    finally:
        _end(process)
    if code is None:
        return Run(None, process.communicate()[0][-OUTPUT_CHARS:])
    failures, passed = _outcomes(report)
    return Run(code, output[-OUTPUT_CHARS:], failures, passed)


def _end(process: subprocess.Popen[str]) -> None:
    """Workers that a test started may have outlived it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _outcomes(report: Path) -> tuple[dict[tuple[str, str], str], frozenset[tuple[str, str]]]:
    """Failures of the tests themselves: an error in what was set up for one, or taken down after it, is none."""
    failures: dict[tuple[str, str], str] = {}
    passed: set[tuple[str, str]] = set()
    if not report.exists():
        return failures, frozenset()
    for case in ET.parse(report).iter("testcase"):
        place = place_of(f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}")
        failure = case.find("failure")
        if failure is not None:
            failures[place] = (failure.get("message") or "").strip().split("\n")[0]
        elif case.find("error") is None and case.find("skipped") is None:
            passed.add(place)
    return failures, frozenset(passed - failures.keys())
