"""A mutant: the product with one mechanism switched off, and the tests that must notice."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Edit = tuple[str, str]
"""(old text, new text). The old one must be there exactly once: code that has moved makes a mutant fail, not vanish."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`tests` are pytest node ids; any of them may kill it. `off` says what is switched off."""

    name: str
    off: str
    file: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    limit_s: float = 300.0
    hang_kills: bool = False  # a run that doesn't end within the limit counts as killed


@dataclass(frozen=True, slots=True)
class Mechanism:
    """What a promise leans on, and its mutants: one for each place where it stands."""

    name: str
    mutants: tuple[Mutant, ...]


class StaleError(Exception):
    """The code a mutant speaks of isn't there any more."""


def mutated(text: str, mutant: Mutant) -> str:
    """Raises `StaleError` unless each edit applies exactly once."""
    for old, new in mutant.edits:
        if (found := text.count(old)) != 1:
            raise StaleError(f"{mutant.name}: {mutant.file} has {found} times {old!r}")
        text = text.replace(old, new)
    return text


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    """The mutant's code in the tree while the block runs."""
    path = tree / mutant.file
    whole = path.read_text()
    try:
        _write(path, mutated(whole, mutant))
        yield
    finally:
        _write(path, whole)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # Python tells compiled code by size and whole seconds: two edits may share both.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def place_of(node: str) -> tuple[str, str]:
    """(file, function) of a node id."""
    file, _, name = node.partition("::")
    return file, name.partition("[")[0]
