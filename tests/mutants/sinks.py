"""Mutants of the archive and of HBase, and of the followers that bring them after the fold."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

ARCHIVE = "sinks/archive/archive.py"
RECOVERY = "sinks/archive/recovery.py"
COUNTS = "agents/counts.py"
RESCAN = "agents/rescan.py"
CLAIM = "sinks/hbase/claim.py"
UNIT = "tests/unit/agents"
PROGRESS_COVERED = "tests/contract/test_archive_faults.py::test_progress_is_covered_whichever_call_fails"
FORGETTING = f"{PROGRESS_COVERED}[Fault.BEFORE-and takes what was not synced]"
ONE_CALL = f"{PROGRESS_COVERED}[Fault.BEFORE-one call fails]"
LOG_SINK = "tests/contract/test_log_sink.py"
CELL_SINK = "tests/contract/test_cell_sink.py"

DURABILITY = Mechanism(
    "progress never ahead of durability",
    (
        Mutant(
            "durable-lines",
            "the ledger speaks of lines that were not hsynced",
            "sinks/archive/multiwriter.py",
            (("        _each(sorted(self._touched), self._sync_slot)", "        pass"),),
            (FORGETTING,),
        ),
        Mutant(
            "durable-ledger-first",
            "the ledger line comes before the hsync of the files",
            ARCHIVE,
            (
                (
                    "            files = self._files.sync()\n",
                    (
                        "            touched = self._files._touched.values()\n"
                        "            files = {one.name.ledger_key: (one.length, one.crc) for one in touched}\n"
                        "            self._append_to_ledger(files)\n"
                    ),
                ),
                (
                    "            self._append_to_ledger(files)\n            self._archive.probe(Point.LEDGER_SYNCED)",
                    "            self._files.sync()\n            self._archive.probe(Point.LEDGER_SYNCED)",
                ),
            ),
            (FORGETTING,),
        ),
        Mutant(
            "durable-ledger",
            "the ledger line is not hsynced",
            "sinks/archive/ledger.py",
            (("        self._handle.sync()\n", ""),),
            (FORGETTING,),
        ),
        Mutant(
            "durable-without-ledger",
            "archive progress moves without a ledger line",
            ARCHIVE,
            (("            self._append_to_ledger(files)\n", ""),),
            (ONE_CALL,),
        ),
        Mutant(
            "durable-written",
            "a follower of records is as far as it has written",
            "agents/follower.py",
            (
                (
                    "            self._unsynced += batch.batch.size\n",
                    "            self._unsynced += batch.batch.size\n            self.durable = batch.batch.end\n",
                ),
            ),
            (f"{UNIT}/test_follower.py::test_batches_reach_the_sink_in_order_and_only_a_sync_makes_them_durable",),
        ),
        Mutant(
            "durable-cut",
            "a checkpoint says that followers are as far as the fold",
            "agents/partition.py",
            (
                (
                    "followers = [(one, one.durable) for",
                    "followers = [(one, structs.replace(one.durable, next_offset=self.next_offset)) for",
                ),
            ),
            (f"{UNIT}/test_partition.py::test_archive_progress_in_a_cut_is_what_was_durable_at_the_cut",),
        ),
        Mutant(
            "durable-counts",
            "counts progress moves before the put",
            COUNTS,
            (
                (
                    "        self._taken = len(cells)\n",
                    "        self._taken = len(cells)\n        self._followed.reached(at.next_offset)\n",
                ),
            ),
            (f"{UNIT}/test_counts.py::test_progress_moves_only_once_everything_is_put",),
        ),
        Mutant(
            "durable-events",
            "events progress moves before the put",
            "sinks/hbase/events.py",
            (
                (
                    "            try:\n                self._put_pending()",
                    "            self._durable = self._next\n            try:\n                self._put_pending()",
                ),
            ),
            ("tests/integration/test_hbase_events.py::test_while_hbase_is_away_records_wait",),
        ),
    ),
)

NEVER_DELETES = Mechanism(
    "abort never deletes",
    (
        Mutant(
            "abort-deletes",
            "a file let go is deleted",
            "sinks/archive/part.py",
            (
                (
                    '        """Let go; the file stays as it is for recovery."""\n',
                    "        self._fs.delete(self.path)\n",
                ),
            ),
            (ONE_CALL,),
        ),
        Mutant(
            "torn-deleted",
            "a torn file is deleted once its whole lines are copied",
            RECOVERY,
            (
                (
                    "self._fs.rename(part.open_path(self._root), torn)",
                    "self._fs.delete(part.open_path(self._root))",
                ),
            ),
            (f"{LOG_SINK}::test_torn_files_are_copied_and_kept_and_empty_ones_deleted[file]",),
        ),
        Mutant(
            "published-over",
            "a file is published over another",
            "sinks/archive/local.py",
            (("if Path(target).exists():", "if False:"),),
            ("tests/contract/test_file_system.py::test_rename_makes_the_folder_and_never_overwrites[file]",),
        ),
        Mutant(
            "name-used-twice",
            "after a write error a file of the same name is begun",
            "sinks/archive/multiwriter.py",
            (("        self._errors += 1", "        pass"),),
            (ONE_CALL,),
        ),
    ),
)

CLAIM_FIRST = Mechanism(
    "claim, lease, then the tail",
    (
        Mutant(
            "claim-skipped",
            "a dead owner's file is not renamed before it is worked on",
            RECOVERY,
            (("        claim = part.claimed(random_token())", "        return part"),),
            (f"{LOG_SINK}::test_two_recoverers_at_once_lose_nothing_and_make_nothing_twice[file]",),
        ),
        Mutant(
            "lease-skipped",
            "a file is looked at while its writer may still write",
            RECOVERY,
            (("if not self._fs.recover_lease(path):", "if False:"),),
            (
                f"{LOG_SINK}::test_a_zombie_whose_files_were_recovered_loses_nothing_and_learns_of_it[file]",
                f"{LOG_SINK}::test_kill_9_loses_nothing_below_the_progress_told[hdfs]",
            ),
        ),
        Mutant(
            "tail-torn",
            "a torn file is published as it is",
            RECOVERY,
            (("        if whole == size:", "        if whole == size or last is not None:"),),
            (f"{LOG_SINK}::test_torn_files_are_copied_and_kept_and_empty_ones_deleted[file]",),
        ),
        Mutant(
            "copy-published-again",
            "half a copy is taken for a file",
            RECOVERY,
            (("        if part.is_copy:", "        if False:"),),
            ("tests/contract/test_archive_faults.py::test_recovery_may_die_at_any_call[Fault.HALF]",),
        ),
        Mutant(
            "live-recovered",
            "our own open files are taken for a dead owner's",
            ARCHIVE,
            (("{*live_attempts, *self._live}", "{*live_attempts}"),),
            (f"{LOG_SINK}::test_recovery_leaves_live_attempts_alone[file]",),
        ),
    ),
)

VERSIONS = Mechanism(
    "HBase versions",
    (
        Mutant(
            "version-below-clock",
            "versions lie below what a clock stamps",
            "sinks/hbase/format.py",
            (("_VERSION_BASE = 1 << 48", "_VERSION_BASE = 1 << 30"),),
            (f"{CELL_SINK}::test_however_puts_of_owner_zombie_and_stranger_interleave_the_function_wins",),
        ),
        Mutant(
            "version-of-arrival",
            "puts are stamped by the server's clock",
            "sinks/hbase/counts.py",
            (
                (
                    "mutateRowsTs(table, batches, version(next_offset), {})",
                    "mutateRows(table, batches, {})",
                ),
            ),
            (f"{CELL_SINK}::test_an_older_put_never_shows_and_an_equal_one_changes_nothing[hbase]",),
        ),
        Mutant(
            "version-of-last-put",
            "cells are put at the version of the put before",
            COUNTS,
            (
                (
                    "await self._put_cells(rows, at.next_offset)",
                    "await self._put_cells(rows, self._durable.next_offset)",
                ),
            ),
            (f"{UNIT}/test_counts.py::test_counts_are_put_as_cells_then_certificates_then_the_frontier",),
        ),
        Mutant(
            "archive-version",
            "the archive's frontier has the version of the counts",
            "sinks/hbase/counts.py",
            (
                (
                    "[_one(FRONTIER_ROW, self._archive, value)], archive_next_offset)",
                    "[_one(FRONTIER_ROW, self._archive, value)], next_offset)",
                ),
            ),
            (f"{CELL_SINK}::test_certificates_and_frontier_have_versions_of_their_own[hbase]",),
        ),
    ),
)

PUT_ORDER = Mechanism(
    "cells, certificates, frontier",
    (
        Mutant(
            "put-order-frontier",
            "the frontier is put first",
            COUNTS,
            (
                (
                    "            for rows in _chunks(cells.items()):",
                    "            await self._show(at)\n            for rows in _chunks(cells.items()):",
                ),
            ),
            (f"{UNIT}/test_counts.py::test_counts_are_put_as_cells_then_certificates_then_the_frontier",),
        ),
        Mutant(
            "put-order-newer",
            "what failed to be put hides what came meanwhile",
            COUNTS,
            (("                cells.update(self._cells)\n", "                cells = self._cells | cells\n"),),
            (f"{UNIT}/test_counts.py::test_of_a_put_that_failed_the_checkpoint_offered_meanwhile_is_newer",),
        ),
    ),
)

SNAPSHOT = Mechanism(
    "rescan as of one moment",
    (
        Mutant(
            "rescan-version-of-start",
            "every chunk is put at the version of the rescan's start",
            RESCAN,
            (
                (
                    "yield Chunk(rows, self._progress(glimpse.also).next_offset)",
                    "yield Chunk(rows, self.progress.next_offset)",
                ),
            ),
            (f"{UNIT}/test_rescan.py::test_a_chunk_is_true_at_the_offset_it_was_read_at",),
        ),
        Mutant(
            "rescan-two-moments",
            "rows and the progress they are put at are read one after the other",
            RESCAN,
            (
                (
                    "self._progress(glimpse.also).next_offset",
                    "self._progress(self._store.get(self._progress_row)).next_offset",
                ),
            ),
            (
                f"{UNIT}/test_rescan.py::test_a_checkpoint_right_after_a_read_does_not_raise_the_version_of_what_was_read",
            ),
        ),
        Mutant(
            "rescan-collects-late",
            "checkpoints committed during a rescan are not collected",
            COUNTS,
            (
                ("        self._behind = False  # collects", "        # collects"),
                ("            done = True\n", "            done = True\n            self._behind = False\n"),
            ),
            (f"{UNIT}/test_counts.py::test_a_checkpoint_at_any_moment_of_a_rescan_leaves_the_sink_right",),
        ),
        Mutant(
            "rescan-since",
            "the cell of the first event since then is left out",
            RESCAN,
            (("return unpack_cell(value).offset >= self._since", "return unpack_cell(value).offset > self._since"),),
            (f"{UNIT}/test_rescan.py::test_only_cells_with_an_event_since_then_come",),
        ),
        Mutant(
            "rescan-at-start",
            "a new owner takes its sink for level with the state",
            COUNTS,
            (
                (
                    "self._behind = not partition.settled or followed.next_offset != fold.committed.next_offset",
                    "self._behind = not partition.settled",
                ),
            ),
            (f"{UNIT}/test_counts.py::test_a_new_owner_puts_what_its_sink_lacks",),
        ),
        Mutant(
            "rescan-after-overflow",
            "a dropped backlog is not read again",
            COUNTS,
            (
                (
                    "            self._fall_behind()\n            held = self._taken",
                    "            self._cells, self._certificates = {}, {}\n            held = self._taken",
                ),
            ),
            (f"{UNIT}/test_counts.py::test_a_full_backlog_is_dropped_and_the_state_read_instead",),
        ),
        Mutant(
            "rescan-begins-again",
            "a rescan that failed in the middle is taken for done",
            COUNTS,
            (("            if not done:\n", "            if False:\n"),),
            (f"{UNIT}/test_counts.py::test_a_rescan_that_failed_in_the_middle_begins_again",),
        ),
    ),
)

OWNER = Mechanism(
    "owner and id of HBase tables",
    (
        Mutant(
            "owner-unchecked",
            "tables of another app or table are used",
            CLAIM,
            (("        if self.owns(owner):", "        if True:"),),
            ("tests/integration/test_hbase_claim.py::test_tables_of_other_counts_are_refused",),
        ),
        Mutant(
            "table-id-ignored",
            "tables made anew are taken for the old ones",
            COUNTS,
            (("        if table_id != progress.table_id:", "        if False:"),),
            (f"{UNIT}/test_counts.py::test_emptied_tables_are_filled_again_from_the_start",),
        ),
        Mutant(
            "table-id-emptied",
            "a counts table emptied alone keeps its id",
            CLAIM,
            (("                if not _emptied(connection, name):", "                if True:"),),
            ("tests/integration/test_hbase_claim.py::test_a_counts_table_emptied_alone_gives_a_new_id_once",),
        ),
    ),
)

ANSWERS = Mechanism(
    "a failed connection is not used again",
    (
        Mutant(
            "answer-of-another-question",
            "an answer is taken for that of the last question",
            "sinks/hbase/connection.py",
            (("        if (name, number) != self._asked:", "        if False:"),),
            ("tests/integration/test_hbase_connection.py::test_an_answer_to_another_question_is_not_taken",),
        ),
        Mutant(
            "connection-kept",
            "a connection goes back to the pool after an error",
            "sinks/hbase/connection.py",
            (
                (
                    "                connection.close()\n                raise",
                    "                self._give_back(connection)\n                raise",
                ),
            ),
            ("tests/integration/test_hbase_connection.py::test_any_error_in_the_block_costs_the_connection",),
        ),
    ),
)

SINKS = (DURABILITY, NEVER_DELETES, CLAIM_FIRST, VERSIONS, PUT_ORDER, SNAPSHOT, OWNER, ANSWERS)
