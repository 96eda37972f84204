"""`make test-mutants`: one mechanism switched off at a time; the tests named for it must fail.

A mutant that survives is a missing test.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from lab import Lab
from lab.errors import LabError
from tests.conftest import KAFKA_CONFIG, SERVERS
from tests.mutants.catalogue import MECHANISMS
from tests.mutants.doc import table
from tests.mutants.mutant import Mechanism, Mutant, StaleError, applied, mutated, place_of
from tests.mutants.runs import FAILED, ROOT, copy_tree, run_tests

WHOLE_LIMIT_S = 900.0
FAILURE_CHARS = 110


def chosen(only: Sequence[str]) -> list[Mutant]:
    """Those named, or all of a mechanism named; all of them without names."""

    def wanted(mechanism: Mechanism, mutant: Mutant) -> bool:
        return not only or mutant.name in only or mechanism.name in only

    return [one for mechanism in MECHANISMS for one in mechanism.mutants if wanted(mechanism, one)]


def stale(mutants: Sequence[Mutant]) -> dict[str, str]:
    """Mutants that can't be applied, and why."""
    found = {}
    for one in mutants:
        try:
            mutated((ROOT / one.file).read_text(), one)
        except (StaleError, FileNotFoundError) as err:
            found[one.name] = str(err)
    return found


def start_servers(stack: ExitStack, tests: Sequence[str]) -> Mapping[str, str]:
    """One lab for all runs, unless none needs a server; addresses as tests/conftest.py reads them."""
    if all(one.startswith("tests/unit/") for one in tests):
        return {}
    lab = stack.enter_context(Lab())
    lab.kafka(config=KAFKA_CONFIG)
    lab.start("hdfs", "hbase")
    return {
        SERVERS["kafka"]: lab.kafka().bootstrap_servers,
        SERVERS["hdfs"]: lab.hdfs().url,
        SERVERS["hbase"]: lab.hbase().address,
    }


def judge(mutant: Mutant, tree: Path, servers: Mapping[str, str]) -> tuple[bool, str]:
    """(killed, by what or why not)."""
    with applied(mutant, tree):
        run = run_tests(tree, mutant.tests, servers, mutant.limit_s, "-x")
    if run.code is None:
        return mutant.hang_kills, f"didn't end within {mutant.limit_s:g} s"
    if run.code == FAILED and run.failures:
        (_, test), said = next(iter(run.failures.items()))
        return True, f"{test}: {said[:FAILURE_CHARS]}"
    if run.code == 0:
        return False, "SURVIVED: " + " ".join(mutant.tests)
    return False, f"NO VERDICT: pytest exited with {run.code}\n{run.output}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names of mutants or mechanisms")
    parser.add_argument("--table", action="store_true", help="print the table of docs/reliability.md and end")
    given = parser.parse_args()
    if given.table:
        print(table(MECHANISMS))
        return 0
    mutants = chosen(given.only)
    if not mutants:
        parser.error(f"no mutant or mechanism is called {' or '.join(given.only)}; there are\n{names()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the run under way and the servers end too
    killed = 0
    try:
        for mutant, dead, why, took_s in run_all(mutants):
            killed += dead
            print(f"{'killed' if dead else 'FAILED'}  {mutant.name:28} {took_s:5.1f} s  {why}", flush=True)
    except LabError as err:
        print(f"no servers: {err}", flush=True)
    print(f"{killed} passed, {len(mutants) - killed} failed", flush=True)
    return 0 if killed == len(mutants) else 1


def names() -> str:
    return "\n".join(f"  {one.name}: {', '.join(mutant.name for mutant in one.mutants)}" for one in MECHANISMS)


def run_all(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, bool, str, float]]:
    """(mutant, killed, by what or why not, seconds it took), of one after the other."""
    unfit = stale(mutants)
    tests = sorted({test for one in mutants for test in one.tests})
    with ExitStack() as stack:
        tree = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recount-mutants-")))
        copy_tree(tree)
        servers = start_servers(stack, tests)
        began = time.monotonic()
        whole = run_tests(tree, tests, servers, WHOLE_LIMIT_S)
        print(f"unmutated: {len(tests)} tests, {time.monotonic() - began:.1f} s", flush=True)
        if whole.code != 0:
            print(whole.output, flush=True)
        for one in mutants:
            began = time.monotonic()
            if one.name in unfit:
                dead, why = False, f"CAN'T BE APPLIED: {unfit[one.name]}"
            elif failing := [test for test in one.tests if place_of(test) not in whole.passed]:
                dead, why = False, f"FAILS UNMUTATED: {' '.join(failing)}"
            else:
                dead, why = judge(one, tree, servers)
            yield one, dead, why, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
