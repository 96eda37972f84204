"""Mutants of the counting function and of what a checkpoint makes of it."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

FOLD = "domain/fold.py"
PARTITION = "agents/partition.py"
UNIT = "tests/unit/agents"
TORN_LOG = "tests/unit/domain/test_fold_splits.py::test_a_torn_checkpoint_of_a_long_log_changes_nothing"
TORN_TRANSACTION = "tests/integration/test_restore.py::test_after_a_torn_transaction_events_count_once"

DROP = Mechanism(
    "drop at or below progress",
    (
        Mutant(
            "drop-in-fold",
            "a table folds records below its own progress",
            FOLD,
            (("if len(batch) and int(batch.offsets[0]) < standing.next_offset:", "if False:"),),
            (f"{UNIT}/test_partition.py::test_a_table_ignores_records_below_its_own_progress",),
        ),
        Mutant(
            "drop-stale-batch",
            "a stale batch is folded",
            "domain/position.py",
            (("return Step.STALE if", "return Step.FOLD if"),),
            (f"{UNIT}/test_assignment.py::test_batches_are_folded_in_chain_order_and_stale_ones_dropped",),
        ),
        Mutant(
            "drop-in-follower",
            "a follower takes batches below what is durable",
            "agents/follower.py",
            (("if batch.batch.end <= self.durable:", "if False:"),),
            (f"{UNIT}/test_follower.py::test_batches_wholly_below_what_is_durable_are_ignored",),
        ),
        Mutant(
            "drop-in-archive",
            "the archive writes what it was given before",
            "sinks/archive/archive.py",
            (("if columns.start < self._next:", "if False:"),),
            ("tests/contract/test_log_sink.py::test_a_batch_written_again_changes_nothing[file]",),
        ),
    ),
)

CHAIN = Mechanism(
    "position chain",
    (
        Mutant(
            "chain-hole",
            "a batch after a hole is folded",
            "domain/position.py",
            (("else Step.HOLE", "else Step.FOLD"),),
            (f"{UNIT}/test_assignment.py::test_a_hole_is_read_again",),
        ),
        Mutant(
            "chain-stall",
            "a fetch lost at the log's end is not looked for",
            "agents/assignment.py",
            (("reading is not None and reading > next_offset:", "False:"),),
            (f"{UNIT}/test_assignment.py::test_a_stall_is_healed_only_when_nothing_moved_and_reading_is_beyond",),
        ),
        Mutant(
            "chain-control-records",
            "a batch ends at its last record, not past control records",
            "tables/fetch.py",
            (
                (
                    "end=fetched.next_fetch_offset,",
                    "end=int(offsets[-1]) + 1 if len(offsets) else fetched.next_fetch_offset,",
                ),
            ),
            ("tests/integration/test_transport.py::test_commits_aborts_and_interleaved_transactions",),
        ),
        Mutant(
            "chain-archive",
            "the archive takes a batch that leaves a hole",
            "sinks/archive/archive.py",
            (("if columns.start > self._next:", "if False:"),),
            ("tests/contract/test_log_sink.py::test_a_batch_written_again_changes_nothing[file]",),
        ),
    ),
)

SEEK = Mechanism(
    "seek to the lowest progress",
    (
        Mutant(
            "seek-lowest",
            "reading starts at the highest progress",
            "domain/progress.py",
            (("return min(next_offsets)", "return max(next_offsets)"),),
            (f"{UNIT}/test_partition.py::test_reading_starts_where_the_slowest_of_tables_and_archive_is",),
        ),
    ),
)

ONE_ROW = Mechanism(
    "value and offset in one row",
    (
        Mutant(
            "one-row-cell",
            "a cell's value rises and its offset stays",
            "domain/rows.py",
            (("before_on_time, before_late, _ = _unpack", "before_on_time, before_late, offset = _unpack"),),
            (TORN_TRANSACTION,),
        ),
        Mutant(
            "one-row-certificate",
            "a certificate's counts rise and its offset stays",
            "domain/certificate.py",
            (("self.offset = max(self.offset, other.offset)", "self.offset = max(self.offset, -1)"),),
            (TORN_TRANSACTION,),
        ),
    ),
)

AHEAD = Mechanism(
    "skip of values ahead of progress",
    (
        Mutant(
            "ahead-cells",
            "cells ahead take in what they have",
            FOLD,
            (("cells.get((start, encode_key(k)), -1) < o for", "True for"),),
            (TORN_LOG,),
        ),
        Mutant(
            "ahead-certificates",
            "certificates ahead take in what they have",
            FOLD,
            (("offsets[offsets > ahead.certificates.get(start, -1)]", "offsets"),),
            (TORN_LOG,),
        ),
        Mutant(
            "ahead-ids",
            "an event id ahead makes its own event a duplicate",
            FOLD,
            (("if first < offset:", "if first < offset or one in stored:"),),
            (
                "tests/unit/domain/test_fold_splits.py::test_an_id_stored_by_a_torn_checkpoint_at_its_own_offset_is_no_duplicate",
            ),
        ),
        Mutant(
            "ahead-restore",
            "a restore doesn't look for rows ahead",
            "tables/restore.py",
            (("tails.loose(first)", "{}"),),
            (TORN_TRANSACTION,),
        ),
        Mutant(
            "ahead-position",
            "a restore with rows ahead remembers its position",
            "tables/restore.py",
            (("restored.state_id is not None and not restored.ahead:", "restored.state_id is not None:"),),
            (
                "tests/integration/test_taking_over.py::test_a_new_table_beside_rows_ahead_of_progress_leaves_them_to_be_told",
            ),
        ),
    ),
)

STREAM_TIME = Mechanism(
    "stream time restored",
    (
        Mutant(
            "stream-time-restored",
            "a new owner begins without a stream time",
            PARTITION,
            (("Standing(progress.next_offset, progress.stream_time,", "Standing(progress.next_offset, None,"),),
            (f"{UNIT}/test_partition.py::test_a_new_owner_goes_on_from_the_stream_time_that_was_committed",),
        ),
    ),
)

OWN_STREAM_TIME = Mechanism(
    "each progress its own stream time",
    (
        Mutant(
            "own-stream-time",
            "tables of a partition share one stream time",
            PARTITION,
            (
                (
                    "            fold(table.spec, decoded,",
                    (
                        "            times = [t.standing.stream_time or 0 for t in self.tables]\n"
                        "            table.standing.stream_time = max(times) or None\n"
                        "            fold(table.spec, decoded,"
                    ),
                ),
            ),
            (f"{UNIT}/test_partition.py::test_a_table_that_is_behind_has_a_stream_time_of_its_own",),
        ),
    ),
)

DEDUP = Mechanism(
    "event ids known to the fold",
    (
        Mutant(
            "ids-in-flight",
            "ids of a checkpoint in flight are not known",
            "tables/cells.py",
            (("pending = window.ids if window is not None else {}", "pending: dict[bytes, int] = {}"),),
            (f"{UNIT}/test_checkpointer.py::test_event_ids_of_a_commit_in_flight_are_known_to_the_fold",),
        ),
    ),
)

FINALS = Mechanism(
    "finals once",
    (
        Mutant(
            "finals-cursor",
            "progress doesn't say how far finals were sent",
            PARTITION,
            (("cut.progress.cursors |= one.finals.cursors", "pass"),),
            (f"{UNIT}/test_finals.py::test_a_large_window_is_sent_in_several_checkpoints_each_cell_once",),
        ),
        Mutant(
            "finals-early",
            "finals are sent with the checkpoint that closes the window, on what the one before stored",
            PARTITION,
            (
                (
                    "until = closed_until(spec, committed.stream_time)",
                    "until = closed_until(spec, table.standing.stream_time)",
                ),
            ),
            (f"{UNIT}/test_finals.py::test_what_one_checkpoint_counts_and_closes_is_in_the_finals_of_the_next",),
        ),
        Mutant(
            "finals-before-drop",
            "cells go before their finals are sent",
            "tables/cells.py",
            (("due = settling.due.after(finals, settling.closing)", "due = settling.due"),),
            (f"{UNIT}/test_finals.py::test_cells_stay_until_their_finals_are_sent",),
        ),
        Mutant(
            "finals-left-by-the-dead",
            "a new owner doesn't look for finals that the one before owed",
            PARTITION,
            (("            table.unsettled = closing is not None and closing.due", "            del closing"),),
            (f"{UNIT}/test_finals.py::test_a_death_between_a_close_and_its_finals_leaves_them_to_the_next_owner",),
        ),
    ),
)

LIMIT = Mechanism(
    "bounded transactions",
    (
        Mutant(
            "limit-finals",
            "a window's finals go in one checkpoint, however many",
            "tables/finals.py",
            (("room = closing.limit - len(finals.records)", "room = 1 << 40"),),
            (f"{UNIT}/test_finals.py::test_a_large_window_is_sent_in_several_checkpoints_each_cell_once",),
        ),
        Mutant(
            "limit-tombstones",
            "a window's tombstones go in one checkpoint, however many",
            "tables/expiry.py",
            (("room = due.limit - len(dropped.tombstones)", "room = 1 << 40"),),
            (f"{UNIT}/test_expiry.py::test_a_large_window_goes_in_several_checkpoints_though_nothing_else_moves",),
        ),
    ),
)

DELETION = Mechanism(
    "deletion waits for followers",
    (
        Mutant(
            "deletion-waits",
            "cells go once they have expired",
            "tables/expiry.py",
            (("if max(one.on_time.last, one.late.last) >= due.passed:", "if False:"),),
            (f"{UNIT}/test_expiry.py::test_cells_wait_for_every_follower",),
        ),
        Mutant(
            "deletion-waits-for-archive",
            "cells don't wait for followers of records",
            PARTITION,
            (("following = [*self.logs.values(), *(", "following = [*("),),
            (f"{UNIT}/test_expiry.py::test_cells_wait_for_every_follower[archive]",),
        ),
        Mutant(
            "deletion-waits-for-counts",
            "cells don't wait for followers of counts",
            PARTITION,
            (("if one.table == table.spec.name)]", "if not one.table)]"),),
            (f"{UNIT}/test_expiry.py::test_cells_wait_for_every_follower[counts]",),
        ),
    ),
)

DROPPED = Mechanism(
    "`dropped` before cells go",
    (
        Mutant(
            "dropped-mark",
            "cells go and their certificate doesn't say so",
            "tables/expiry.py",
            (("dropped.certificates.append((key, rows.pack_certificate(one)))", "pass"),),
            (f"{UNIT}/test_expiry.py::test_cells_and_event_ids_go_with_their_window",),
        ),
        Mutant(
            "dropped-order",
            "tombstones are written before the mark",
            "tables/cells.py",
            (
                (
                    "    found += certificates\n    found += dropped.tombstones",
                    "    found += dropped.tombstones\n    found += certificates",
                ),
            ),
            (f"{UNIT}/test_expiry.py::test_cells_and_event_ids_go_with_their_window",),
        ),
        Mutant(
            "dropped-leftovers",
            "a rescan puts leftover cells of dropped windows",
            "agents/rescan.py",
            (("if one.offset >= self._since and not one.dropped:", "if one.offset >= self._since:"),),
            (f"{UNIT}/test_expiry.py::test_leftovers_of_a_dropped_window_are_dropped_again_and_never_put",),
        ),
    ),
)

CUTS = Mechanism(
    "cuts make windows partial",
    (
        Mutant(
            "cuts-new",
            "a certificate doesn't hear of cuts known before",
            "tables/cells.py",
            (("certificate.partial |= cuts.touch(start)", "pass"),),
            (f"{UNIT}/test_partition.py::test_windows_a_gap_can_touch_are_partial_those_counted_before_it_too",),
        ),
        Mutant(
            "cuts-stored",
            "stored certificates don't hear of a new cut",
            "tables/cells.py",
            (("    low, high = cuts.reach()", "    low, high = 0, -1"),),
            (f"{UNIT}/test_partition.py::test_windows_a_gap_can_touch_are_partial_those_counted_before_it_too",),
        ),
        Mutant(
            "cuts-at-start",
            "a log that begins above 0 is taken for whole",
            "agents/opening.py",
            (("cuts = [Cut(0, start)] if start > 0 and start == bounds.begin else []", "cuts = []"),),
            ("tests/integration/test_taking_over.py::test_a_log_that_begins_above_0_is_cut_at_its_start",),
        ),
    ),
)

COUNTING = (
    DROP,
    CHAIN,
    SEEK,
    ONE_ROW,
    AHEAD,
    STREAM_TIME,
    OWN_STREAM_TIME,
    DEDUP,
    FINALS,
    LIMIT,
    DELETION,
    DROPPED,
    CUTS,
)
