"""Mutants of the local state: what a restored directory is checked for, and what it is not believed."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

CELL_CHECK = "agents/cell_check.py"
ROCKSDB = "tables/rocksdb.py"
ASSIGNED = "tests/unit/agents/test_assignment.py"
STORE = "tests/unit/tables/test_rocksdb.py"
RESTORED_ONCE = f"{ASSIGNED}::test_cells_that_do_not_add_up_are_restored_once"

CELLS = Mechanism(
    "cells checked against certificates",
    (
        Mutant(
            "cells-unchecked",
            "cells are not checked",
            "agents/assignment.py",
            (("        self._spawn(self._check_cells(place, owned))\n", ""),),
            (RESTORED_ONCE,),
        ),
        Mutant(
            "cells-ignored",
            "a mismatch is ignored",
            CELL_CHECK,
            (("        if mismatch is None:\n            suspicion", "        if True:\n            suspicion"),),
            (RESTORED_ONCE,),
        ),
        Mutant(
            "cells-condemned",
            "the directory of a mismatch is used again",
            CELL_CHECK,
            (("        partition.store.condemn()\n", ""),),
            (RESTORED_ONCE,),
        ),
        Mutant(
            "cells-refused",
            "a second mismatch is restored again, and again",
            CELL_CHECK,
            (("if suspicion.noted(partition.state_id):", "if False:"),),
            (f"{ASSIGNED}::test_cells_that_come_wrong_out_of_the_changelog_are_refused",),
        ),
        Mutant(
            "cells-unsettled",
            "cells are checked while rows are ahead of progress",
            CELL_CHECK,
            (("while not partition.settled:", "while False:"),),
            (
                "tests/unit/agents/test_cells_checked.py::test_rows_of_a_torn_transaction_are_checked_once_progress_covers_them",
            ),
        ),
        Mutant(
            "cells-one-moment",
            "cells are compared with the certificate of another moment",
            "tables/cell_check.py",
            (("if self.store.get(key) == value:", "if True:"),),
            (
                "tests/unit/tables/test_cell_check.py::test_no_false_alarm_when_checkpoints_come_between_a_certificate_and_its_cells",
            ),
        ),
        Mutant(
            "cells-uncertified",
            "cells without a certificate are passed over",
            "tables/cell_check.py",
            (("for start in self._windows_with_cells():", "for start in ():"),),
            ("tests/unit/tables/test_cell_check.py::test_cells_without_a_certificate_are_a_mismatch",),
        ),
    ),
)

WHOLE_DIRECTORY = Mechanism(
    "a local directory is whole, or none",
    (
        Mutant(
            "directory-list",
            "a list of files that lost its end is believed",
            ROCKSDB,
            (("if db is not None and _lost(before, db):", "if False:"),),
            (f"{STORE}::test_a_list_of_files_that_lost_its_end_is_not_believed",),
        ),
        Mutant(
            "directory-unlogged",
            "a position is written before the rows loaded ahead of it are in files",
            ROCKSDB,
            (("                db.flush()  # a position", "                pass  # a position"),),
            (f"{STORE}::test_a_position_never_outlives_the_rows_loaded_before_it",),
        ),
        Mutant(
            "directory-torn",
            "a commit's position goes apart from its rows",
            ROCKSDB,
            (
                (
                    "            batch.put(LOCAL, msgspec.json.encode(position))\n",
                    "            self._db[LOCAL] = msgspec.json.encode(position)\n",
                ),
            ),
            (f"{STORE}::test_a_disk_that_takes_no_more_is_an_error_that_names_the_folder_and_no_commit_is_torn",),
        ),
    ),
)

LOCAL_STATE = (CELLS, WHOLE_DIRECTORY)
