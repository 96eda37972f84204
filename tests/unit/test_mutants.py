"""The mutants of `make test-mutants` don't rot: each applies, its tests are there, and its line in the docs."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.mutants.catalogue import MECHANISMS
from tests.mutants.doc import table
from tests.mutants.mutant import Mutant, StaleError, mutated, place_of

ROOT = Path(__file__).parents[2]
MUTANTS = [mutant for mechanism in MECHANISMS for mutant in mechanism.mutants]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    functions = (one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_applies_to_the_code_of_today_and_its_tests_exist(mutant: Mutant) -> None:
    whole = (ROOT / mutant.file).read_text()
    changed = mutated(whole, mutant)
    assert changed != whole
    compile(changed, mutant.file, "exec")
    assert mutant.tests
    for file, name in map(place_of, mutant.tests):
        assert name in names_in(file), f"{file} has no {name}"


def test_names_are_given_once() -> None:
    names = Counter([mutant.name for mutant in MUTANTS] + [mechanism.name for mechanism in MECHANISMS])
    assert [name for name, count in names.items() if count > 1] == []


def test_every_mechanism_has_a_mutant_and_its_line_in_the_docs() -> None:
    assert all(mechanism.mutants for mechanism in MECHANISMS)
    assert table(MECHANISMS) in (ROOT / "docs" / "reliability.md").read_text()


def test_code_that_has_moved_is_told() -> None:
    for text in ("nothing of it", "once and once more"):
        with pytest.raises(StaleError):
            mutated(text, Mutant("moved", "off", "a.py", (("once", "never"),), ("a test",)))
