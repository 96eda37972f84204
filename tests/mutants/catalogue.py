"""Every mechanism that the promise leans on, with its mutants."""

from __future__ import annotations

from tests.mutants.commits import COMMITS
from tests.mutants.counting import COUNTING
from tests.mutants.sinks import SINKS

MECHANISMS = (*COUNTING, *COMMITS, *SINKS)
