"""Mutants of the commit, and of what comes before the first one."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

PARTITION = "agents/partition.py"
OPENING = "agents/opening.py"
CHANGELOG = "tables/changelog.py"
UNIT = "tests/unit/agents"
TAKING_OVER = "tests/integration/test_taking_over.py"
LOG = "tests/integration/test_changelog.py"
TORN_VIEW = f"{UNIT}/test_view.py::test_rows_of_a_torn_transaction_are_not_answered_before_progress_covers_them"

BEFORE_H = Mechanism(
    "nothing before H",
    (
        Mutant(
            "before-h-committed",
            "a partition with rows ahead commits",
            PARTITION,
            (("if not self.ready or self._half_folded:", "if self._half_folded:"),),
            (f"{UNIT}/test_partition.py::test_nothing_is_cut_before_the_fold_has_passed_the_rows_that_are_ahead",),
        ),
        Mutant(
            "before-h-early",
            "H itself counts as passed",
            PARTITION,
            (
                (
                    "self.standing.next_offset <= self.ahead.until",
                    "self.standing.next_offset < self.ahead.until",
                ),
            ),
            (f"{UNIT}/test_partition.py::test_nothing_is_cut_before_the_fold_has_passed_the_rows_that_are_ahead",),
        ),
        Mutant(
            "before-h-new-table",
            "beside rows ahead a new table's progress brings a position",
            OPENING,
            (
                (
                    "position = None if any(table.ahead for table in partition.tables) else Position",
                    "position = Position",
                ),
            ),
            (f"{TAKING_OVER}::test_a_new_table_beside_rows_ahead_of_progress_leaves_them_to_be_told",),
        ),
        Mutant(
            "before-h-all-progress",
            "with a new table's progress that of the others is written again",
            OPENING,
            (("progress_rows() if store.get(row[0]) is None]", "progress_rows()]"),),
            (f"{TAKING_OVER}::test_a_new_table_beside_rows_ahead_of_progress_leaves_them_to_be_told",),
        ),
        Mutant(
            "before-h-answered",
            "a partition with rows ahead answers",
            "agents/view.py",
            (("if owner is None or not owner.settled:", "if owner is None:"),),
            (TORN_VIEW,),
        ),
        Mutant(
            "before-h-uncommitted",
            "a partition answers once the fold has passed rows ahead, before their commit",
            "agents/view.py",
            (("if owner is None or not owner.settled:", "if owner is None or not owner.ready:"),),
            (TORN_VIEW,),
        ),
        Mutant(
            "before-h-put",
            "a partition with rows ahead is put to HBase",
            "agents/counts.py",
            (("        if not self._partition.settled:\n            return", "        if False:\n            return"),),
            (f"{UNIT}/test_counts.py::test_nothing_is_put_while_rows_are_ahead_of_progress",),
        ),
        Mutant(
            "before-h-rescan",
            "rows that were ahead are taken for put",
            "agents/counts.py",
            (("level = partition.settled and followed", "level = followed"),),
            (f"{UNIT}/test_counts.py::test_rows_of_a_torn_transaction_reach_the_sink",),
        ),
    ),
)

FUTURES = Mechanism(
    "batch futures before the commit",
    (
        Mutant(
            "futures-rows",
            "batches of rows are committed unchecked",
            CHANGELOG,
            (("last = (await _acked(self._topic, future)).offset + count - 1", "last += count"),),
            (f"{LOG}::test_rows_beside_a_refused_batch_are_never_committed",),
        ),
        Mutant(
            "futures-finals",
            "batches of finals are committed unchecked",
            CHANGELOG,
            (("            await _acked(topic, future)\n", "            del future\n"),),
            (f"{LOG}::test_rows_beside_finals_that_are_refused_are_never_committed",),
        ),
    ),
)

END_ONCE = Mechanism(
    "the end of a transaction is asked for once",
    (
        Mutant(
            "end-once",
            "an end whose connection broke is asked for again",
            CHANGELOG,
            (("        _end_once(producer)\n", ""),),
            (f"{LOG}::test_an_end_whose_connection_broke_is_an_unknown_outcome",),
        ),
    ),
)

DEADLINE = Mechanism(
    "every producer call has a deadline",
    (
        Mutant(
            "deadline",
            "a commit is waited for without end",
            CHANGELOG,
            (
                (
                    "timeout(self._settings.request_timeout_ms / 1000):\n                return await call",
                    "timeout(None):\n                return await call",
                ),
            ),
            (f"{UNIT}/test_checkpointer.py::test_a_commit_slower_than_the_request_timeout_fails",),
        ),
    ),
)

COMMIT_ORDER = Mechanism(
    "order of a commit",
    (
        Mutant(
            "order-progress-last",
            "progress goes before the rows it speaks of",
            PARTITION,
            (
                (
                    "        found: list[Row] = []\n        for one in by_table",
                    "        found = self.progress_rows()\n        for one in by_table",
                ),
                ("        found += self.progress_rows()\n", ""),
            ),
            (f"{UNIT}/test_partition.py::test_progress_rows_come_last",),
        ),
        Mutant(
            "order-store-first",
            "the store has a checkpoint before the changelog",
            "agents/checkpointer.py",
            (
                (
                    "        last = await self._writer.commit(",
                    (
                        "        await asyncio.to_thread(partition.store.commit, encoded.rows)\n"
                        "        last = await self._writer.commit("
                    ),
                ),
            ),
            (f"{UNIT}/test_checkpointer.py::test_a_failed_commit_is_told_once_and_is_the_last",),
        ),
        Mutant(
            "order-new-table",
            "a new table's first records are folded before its progress is committed",
            OPENING,
            (("            await _commit_first(partition, writer, store)", "            pass"),),
            (f"{TAKING_OVER}::test_progress_of_a_new_table_is_committed_before_its_first_record",),
        ),
    ),
)

HALF_DONE = Mechanism(
    "a half-done checkpoint or fold is the last",
    (
        Mutant(
            "half-done-checkpoint",
            "another checkpoint follows one that didn't end",
            "agents/checkpointer.py",
            (("        if self._half_done:", "        if False:"),),
            (
                f"{UNIT}/test_assignment.py::test_after_rows_that_could_not_be_made_no_last_checkpoint_claims_them",
                f"{UNIT}/test_assignment.py::test_after_a_store_that_took_no_rows_no_last_checkpoint_builds_on_it",
            ),
        ),
        Mutant(
            "half-done-fold",
            "a checkpoint follows a fold that didn't end",
            PARTITION,
            (("if not self.ready or self._half_folded:", "if not self.ready:"),),
            (f"{UNIT}/test_partition.py::test_after_a_fold_that_failed_halfway_nothing_is_cut_any_more",),
        ),
    ),
)

RESET = Mechanism(
    "a reset is marked, and renews the state id",
    (
        Mutant(
            "reset-mark",
            "a reset begins without a mark",
            "tables/reset.py",
            (("commit([*marks(self._tables, state_id), *renewed(", "commit([*renewed("),),
            ("tests/unit/tables/test_reset.py::test_the_mark_comes_first_and_goes_last",),
        ),
        Mutant(
            "reset-state-id",
            "what stays keeps its state id",
            "tables/reset.py",
            (("else with_state_id(value, state_id)) for", "else value) for"),),
            ("tests/unit/tables/test_reset.py::test_what_stays_gets_a_new_state_id_twice_and_keeps_all_else",),
        ),
    ),
)

COMMITS = (BEFORE_H, FUTURES, END_ONCE, DEADLINE, COMMIT_ORDER, HALF_DONE, RESET)
