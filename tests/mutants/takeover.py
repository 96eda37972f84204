"""Mutants of taking a partition over, and of the right to."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

OPENING = "agents/opening.py"
TAKEOVERS = "agents/takeover.py"
COUNTED_LOG = "agents/counted_log.py"
RESTORE = "tables/restore.py"
CHANGELOG = "tables/changelog.py"
UNIT = "tests/unit/agents"
GROWTH = "tests/unit/app/test_growth.py"
TAKING_OVER = "tests/integration/test_taking_over.py"
LOG = "tests/integration/test_changelog.py"
RESTORED = "tests/integration/test_restore.py"
APPLIED = "zip(chunk.keys, chunk.values, strict=True)"

FENCE = Mechanism(
    "fence",
    (
        Mutant(
            "fence-after-restore",
            "InitProducerId comes after the restore",
            OPENING,
            (
                ("            await writer.fence()", "            pass"),
                ("            # 3. What progress says", "            await writer.fence()\n            #"),
            ),
            (f"{TAKING_OVER}::test_the_owner_before_is_fenced_before_anything_is_restored",),
        ),
        Mutant(
            "fence-id",
            "the transactional id is another one each time",
            CHANGELOG,
            (('return f"{app}.{topic}.{partition}"', 'return f"{app}.{topic}.{partition}.{time.time_ns()}"'),),
            (f"{LOG}::test_whoever_fences_last_is_the_only_writer",),
        ),
        Mutant(
            "fence-tainted",
            "a writer goes on after an unclean end",
            CHANGELOG,
            (("        if self._tainted:", "        if False:"),),
            (f"{LOG}::test_whoever_fences_last_is_the_only_writer",),
        ),
    ),
)

HEARTBEAT = Mechanism(
    "group asked before a second fence",
    (
        Mutant(
            "heartbeat-not-asked",
            "a fenced owner initialises again without asking the group",
            TAKEOVERS,
            (("if ask and not await self._still_ours(place, epoch):", "if False:"),),
            (f"{UNIT}/test_assignment.py::test_what_the_group_does_not_accept_is_not_initialised_and_ends_the_worker",),
        ),
        Mutant(
            "heartbeat-any-answer",
            "any answer of the group is taken for a yes",
            "agents/fencing.py",
            (("if answer is GroupAnswer.ACCEPTED or answer is None:", "if True:"),),
            (f"{UNIT}/test_assignment.py::test_what_the_group_does_not_accept_is_not_initialised_and_ends_the_worker",),
        ),
        Mutant(
            "heartbeat-silence",
            "no answer is taken for a yes",
            "agents/fencing.py",
            (("            await asyncio.sleep(backoff_s)", "            return GroupAnswer.ACCEPTED"),),
            (f"{UNIT}/test_assignment.py::test_no_answer_is_asked_again_and_never_taken_for_a_yes",),
        ),
    ),
)

REPLACED = Mechanism(
    "a replaced static member ends",
    (
        Mutant(
            "replaced-goes-on",
            "a replaced worker waits for its rebalance",
            "agents/fencing.py",
            (("if answer is GroupAnswer.REPLACED:", "if False:"),),
            (f"{UNIT}/test_assignment.py::test_a_replaced_instance_ends_at_once",),
        ),
        Mutant(
            "replaced-joins",
            "a forgotten member joins again without asking who has its name",
            "app/transport/group.py",
            (("not self.member_id and self._joined is not None:", "False:"),),
            ("tests/unit/app/test_group.py::test_a_forgotten_member_asks_before_it_joins_again",),
        ),
    ),
)

EPOCH = Mechanism(
    "a restore ends with its assignment",
    (
        Mutant(
            "epoch-outlasted",
            "a restore that outlasts a revoke is kept",
            TAKEOVERS,
            (
                (
                    "            if self._epoch == epoch:\n                self._owner.own(",
                    "            if True:\n                self._owner.own(",
                ),
            ),
            (f"{UNIT}/test_assignment.py::test_a_restore_that_outlasts_a_revoke_is_given_back",),
        ),
        Mutant(
            "epoch-lock",
            "a cancelled restore may fence its successor",
            TAKEOVERS,
            (("return self._locks.setdefault(place, asyncio.Lock())", "return asyncio.Lock()"),),
            (f"{UNIT}/test_assignment.py::test_a_cancelled_restore_gives_way_to_its_successor_in_order",),
        ),
        Mutant(
            "epoch-begun",
            "what was revoked before Faust began with it is taken over",
            "app/transport/recovery.py",
            (("if app.rebalancing_count != self._assigned_by:", "if False:"),),
            ("tests/unit/app/test_recovery.py::test_what_was_revoked_meanwhile_waits_for_the_next_assignment",),
        ),
        Mutant(
            "epoch-generation",
            "what another generation of the group was given is taken over",
            "app/transport/recovery.py",
            (("if app.consumer_generation_id == generation_id:", "if True:"),),
            ("tests/unit/app/test_recovery.py::test_what_another_generation_was_given_is_not_begun",),
        ),
    ),
)

READ_COMMITTED = Mechanism(
    "read_committed restore",
    (
        Mutant(
            "read-committed-restore",
            "open and aborted transactions are restored",
            CHANGELOG,
            (('isolation_level="read_committed"', 'isolation_level="read_uncommitted"'),),
            (f"{RESTORED}::test_open_and_aborted_transactions_are_not_restored",),
        ),
        Mutant(
            "read-committed-source",
            "aborted records of the source are counted",
            "tables/fetch.py",
            (("batch.is_transactional and batch.producer_id in fetched._aborted_producers:", "False:"),),
            ("tests/integration/test_transport.py::test_commits_aborts_and_interleaved_transactions",),
        ),
    ),
)

STATE_ID = Mechanism(
    "state id",
    (
        Mutant(
            "state-id-other",
            "a directory of another changelog is used",
            RESTORE,
            (("if local is not None and state_id != local.state_id:", "if False:"),),
            (
                f"{RESTORED}::test_a_directory_of_another_state_is_wiped",
                f"{RESTORED}::test_a_directory_from_before_a_reset_brings_no_row_back",
            ),
        ),
        Mutant(
            "state-id-position",
            "a position outside the log is used",
            RESTORE,
            (("local is not None and bounds.begin <= local.offset < bounds.end:", "local is not None:"),),
            (f"{RESTORED}::test_a_directory_at_a_position_outside_the_log_is_wiped",),
        ),
        Mutant(
            "state-id-damaged",
            "a directory found damaged is used again",
            "tables/rocksdb.py",
            (("if (self.path / DAMAGED).exists():", "if False:"),),
            ("tests/unit/tables/test_rocksdb.py::test_a_damaged_file_is_an_error_and_then_an_empty_store",),
        ),
        Mutant(
            "state-id-wipe",
            "a directory that can't be used is not emptied",
            RESTORE,
            (("    await asyncio.to_thread(store.wipe)", "    pass"),),
            (f"{RESTORED}::test_a_directory_of_another_state_is_wiped",),
        ),
    ),
)

BYTE_FOR_BYTE = Mechanism(
    "rows restored byte for byte",
    (
        Mutant(
            "rows-unknown",
            "rows of other versions are left out",
            RESTORE,
            ((APPLIED, "[row for row in zip(chunk.keys, chunk.values) if parse_key(row[0])]"),),
            (f"{RESTORED}::test_rows_of_other_versions_and_tables_are_kept_byte_for_byte",),
        ),
        Mutant(
            "rows-tombstones",
            "tombstones are left out",
            RESTORE,
            ((APPLIED, "[row for row in zip(chunk.keys, chunk.values) if row[1] is not None]"),),
            (f"{RESTORED}::test_tombstones_remove_rows",),
        ),
    ),
)

COMPACT_ONLY = Mechanism(
    "compact-only changelog",
    (
        Mutant(
            "compact-only",
            "a changelog that forgets is used",
            "app/transport/topics.py",
            (('REQUIRED = {"cleanup.policy": "compact", ', "REQUIRED = {"),),
            ("tests/integration/test_topics.py::test_a_changelog_that_could_forget_is_refused",),
        ),
        Mutant(
            "compact-only-partitions",
            "a changelog doesn't grow with its source",
            "app/transport/topics.py",
            (("if known[name].partitions < known[source].partitions", "if False"),),
            ("tests/integration/test_topics.py::test_a_changelog_grows_with_its_source",),
        ),
    ),
)

GROWN = Mechanism(
    "topics grown before the fence",
    (
        Mutant(
            "grown-after-fence",
            "our topics are grown after the fence",
            OPENING,
            (
                ("            await self._source.prepare(place)\n", ""),
                ("            self._probe(Point.WRITER_FENCED)\n", "            await self._source.prepare(place)\n"),
            ),
            (f"{UNIT}/test_opening.py::test_a_partition_that_our_topics_have_no_room_for_yet_is_not_fenced",),
        ),
        Mutant(
            "grown-never",
            "a partition that came while the worker ran is taken for one that our topics have",
            "app/transport/topics.py",
            (("if place.partition < self.counts[place.topic]:", "if True:"),),
            (f"{GROWTH}::test_new_partitions_of_one_assignment_grow_the_topics_once",),
        ),
        Mutant(
            "grown-unlisted",
            "a broker that doesn't list a new partition yet is not asked again",
            "app/transport/topics.py",
            (("if place.partition >= self.counts[place.topic]:", "if False:"),),
            (f"{GROWTH}::test_a_broker_that_has_not_heard_of_a_new_partition_is_asked_again_later",),
        ),
    ),
)

REFUSALS = Mechanism(
    "checks of progress against the source",
    (
        Mutant(
            "check-witness",
            "the last record counted may be another one now",
            COUNTED_LOG,
            (
                (
                    "record_crc(record.key, record.value)) != (witness.timestamp, witness.crc):",
                    "record_crc(record.key, record.value)) is None:",
                ),
            ),
            (f"{TAKING_OVER}::test_another_record_at_the_last_offset_counted_is_another_log",),
        ),
        Mutant(
            "check-vanished",
            "the last record counted may be gone from a log that isn't compacted",
            COUNTED_LOG,
            (("if not await source.compacts(place.topic):", "if False:"),),
            (f"{UNIT}/test_counted_log.py::test_a_marker_in_its_place_is_refused_where_nothing_is_compacted_away",),
        ),
        Mutant(
            "check-end",
            "the log may end before what was counted",
            COUNTED_LOG,
            (("    if furthest > bounds.end:", "    if False:"),),
            (f"{TAKING_OVER}::test_a_log_that_ends_before_what_was_counted_is_another_one",),
        ),
        Mutant(
            "check-gap",
            "records deleted before they were counted are passed over",
            OPENING,
            (("        if bounds.begin > partition.next_offset:", "        if False:"),),
            (f"{TAKING_OVER}::test_records_deleted_before_they_were_counted_are_a_gap",),
        ),
        Mutant(
            "check-fingerprint",
            "settings may change under a table that was counted",
            OPENING,
            (("        if progress.fingerprint != expected:", "        if False:"),),
            (f"{TAKING_OVER}::test_settings_that_changed_are_refused",),
        ),
        Mutant(
            "check-lost-state",
            "state that is lost is begun anew",
            OPENING,
            (("            await self._refuse_lost_state(place)", "            pass"),),
            (f"{TAKING_OVER}::test_an_empty_changelog_although_the_group_had_an_offset_is_lost_state",),
        ),
        Mutant(
            "check-half-reset",
            "a table whose reset hasn't ended is counted",
            OPENING,
            (("        self._refuse_half_reset(place, store)\n", ""),),
            (f"{TAKING_OVER}::test_a_reset_under_way_is_refused",),
        ),
    ),
)

TAKEOVER = (FENCE, HEARTBEAT, REPLACED, EPOCH, READ_COMMITTED, STATE_ID, BYTE_FOR_BYTE, COMPACT_ONLY, GROWN, REFUSALS)
