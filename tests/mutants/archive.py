"""Mutants of the archive, and of what followers say of themselves."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

ARCHIVE = "sinks/archive/archive.py"
RECOVERY = "sinks/archive/recovery.py"
COUNTS = "agents/counts.py"
UNIT = "tests/unit/agents"
PROGRESS_COVERED = "tests/contract/test_archive_faults.py::test_progress_is_covered_whichever_call_fails"
FORGETTING = f"{PROGRESS_COVERED}[Fault.BEFORE-and takes what was not synced]"
HANGING_CLOSES = "tests/contract/test_archive_faults.py::test_files_given_up_are_recovered_though_every_close_hangs"
ONE_CALL = f"{PROGRESS_COVERED}[Fault.BEFORE-one call fails]"
LOG_SINK = "tests/contract/test_log_sink.py"

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
                    "        files = self._files.sync()\n",
                    (
                        "        touched = self._files._touched.values()\n"
                        "        files = {one.name.ledger_key: (one.length, one.crc) for one in touched}\n"
                        "        self._append_to_ledger(files)\n"
                    ),
                ),
                (
                    "        self._append_to_ledger(files)\n        self._archive.probe(Point.LEDGER_SYNCED)",
                    "        self._files.sync()\n        self._archive.probe(Point.LEDGER_SYNCED)",
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
            (("        self._append_to_ledger(files)\n", ""),),
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
            "durable-alone",
            "no checkpoint is cut when only a follower moved",
            "agents/partition.py",
            (("        if not followers and not moved:", "        if not moved:"),),
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
            (f"{LOG_SINK}::test_what_was_synced_outlives_an_abort[file]",),
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
            (HANGING_CLOSES, f"{PROGRESS_COVERED}[Fault.AFTER-one call fails]"),
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
            (f"{LOG_SINK}::test_of_a_copy_half_made_nothing_is_published[file-a line]",),
        ),
        Mutant(
            "live-recovered",
            "our own open files are taken for a dead owner's",
            ARCHIVE,
            (("attempt in live_attempts or attempt in self._live", "attempt in live_attempts"),),
            (f"{LOG_SINK}::test_recovery_leaves_live_attempts_alone[file]",),
        ),
    ),
)

ARCHIVING = (DURABILITY, NEVER_DELETES, CLAIM_FIRST)
