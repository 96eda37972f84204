"""Mutants of the counts in HBase, and of the follower that brings them there."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

COUNTS = "agents/counts.py"
RESCAN = "agents/rescan.py"
CLAIM = "sinks/hbase/claim.py"
UNIT = "tests/unit/agents"
CELL_SINK = "tests/contract/test_cell_sink.py"

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
            (("level = partition.settled and followed.next_offset ==", "level = partition.settled or 0 =="),),
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

LACKING = Mechanism(
    "what HBase lacks is said",
    (
        Mutant(
            "lacking-unseen",
            "windows that went while HBase wasn't configured are taken for put",
            RESCAN,
            (("                self.lost_until = max(self.lost_until, parsed.start_ms)\n", ""),),
            (f"{UNIT}/test_counts.py::test_windows_that_went_while_no_sink_was_configured_are_lacking_too",),
        ),
        Mutant(
            "lacking-forgotten",
            "the next rescan forgets what is lacking",
            COUNTS,
            (("lost = max(scan.lost_until, -1 if before == UNTOLD else before)", "lost = scan.lost_until"),),
            (f"{UNIT}/test_counts.py::test_progress_says_which_windows_emptied_tables_lack",),
        ),
        Mutant(
            "lacking-untold",
            "a new owner leaves untold what the one before didn't come to tell",
            COUNTS,
            (("self._behind = not level or self._durable.lost_until == UNTOLD", "self._behind = not level"),),
            (f"{UNIT}/test_counts.py::test_a_new_owner_with_nothing_counted_still_learns_that_nothing_is_lacking",),
        ),
        Mutant(
            "lacking-unanswered",
            "answers don't say it",
            "agents/view.py",
            (("lost=one.dropped and start <= lost_until", "lost=False"),),
            (f"{UNIT}/test_view.py::test_windows_that_hbase_lacks_are_told",),
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

HBASE = (VERSIONS, PUT_ORDER, SNAPSHOT, LACKING, OWNER, ANSWERS)
