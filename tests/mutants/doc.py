"""The table of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.mutants.mutant import Mechanism, place_of

HEAD = "| mechanism | switched off, one at a time | the suite notices in |\n|---|---|---|"


def table(mechanisms: Sequence[Mechanism]) -> str:
    return "\n".join([HEAD, *map(_row, mechanisms)])


def _row(mechanism: Mechanism) -> str:
    off = "; ".join(one.off for one in mechanism.mutants)
    files = sorted({place_of(test)[0].removeprefix("tests/") for one in mechanism.mutants for test in one.tests})
    return f"| {mechanism.name} | {off} | {', '.join(f'`{file}`' for file in files)} |"
