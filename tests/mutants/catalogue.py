"""Every mechanism that the promise leans on, with its mutants."""

from __future__ import annotations

from tests.mutants.archive import ARCHIVING
from tests.mutants.commits import COMMITS
from tests.mutants.counting import COUNTING
from tests.mutants.hbase import HBASE
from tests.mutants.takeover import TAKEOVER

MECHANISMS = (*TAKEOVER, *COUNTING, *COMMITS, *ARCHIVING, *HBASE)
