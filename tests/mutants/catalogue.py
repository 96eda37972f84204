"""Every mechanism that the promise leans on, with its mutants."""

from __future__ import annotations

from tests.mutants.archive import ARCHIVING
from tests.mutants.commits import COMMITS
from tests.mutants.counting import COUNTING
from tests.mutants.hbase import HBASE
from tests.mutants.intake import INTAKE
from tests.mutants.local_state import LOCAL_STATE
from tests.mutants.takeover import TAKEOVER

MECHANISMS = (*TAKEOVER, *LOCAL_STATE, *INTAKE, *COUNTING, *COMMITS, *ARCHIVING, *HBASE)
