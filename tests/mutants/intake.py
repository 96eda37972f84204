"""Mutants of what bounds the records and cells that wait in memory."""

from __future__ import annotations

from tests.mutants.mutant import Mechanism, Mutant

CHECKPOINTER = "agents/checkpointer.py"
ASSIGNMENT = "agents/assignment.py"
UNIT = "tests/unit/agents"
HANGING = f"{UNIT}/test_checkpointer.py::test_commits_that_hang_hold_up_intake_until_they_end"
PAUSED = f"{UNIT}/test_assignment.py::test_commits_that_hang_pause_intake_and_that_is_no_stuck_partition"
FETCHED = f"{UNIT}/test_assignment.py::test_what_was_fetched_before_a_pause_for_want_of_room_is_read_again"

ROOM = Mechanism(
    "what waits for commits is bounded",
    (
        Mutant(
            "room-unasked",
            "a full room asks for no pause",
            CHECKPOINTER,
            (("            self._tell_crowded(waiting, True)\n", ""),),
            (HANGING,),
        ),
        Mutant(
            "room-unpaused",
            "intake isn't paused when it is asked to be",
            "agents/following.py",
            (("        self._gate.report(Role.STATE, full=full)\n", ""),),
            (PAUSED,),
        ),
        Mutant(
            "room-folded",
            "batches fetched before the pause are folded all the same",
            ASSIGNMENT,
            (("        if owned.checkpointer.crowded:", "        if False:"),),
            (FETCHED,),
        ),
        Mutant(
            "room-thrown-away",
            "batches fetched before the pause are not read again",
            ASSIGNMENT,
            (("if full or owned is None or not owned.thrown_away:", "if True:"),),
            (FETCHED,),
        ),
        Mutant(
            "room-in-flight",
            "what is in flight takes no room",
            CHECKPOINTER,
            (("waiting = dirty + self._in_flight", "waiting = dirty"),),
            (HANGING,),
        ),
        Mutant(
            "room-catching-up",
            "a partition that may not commit yet waits for room",
            CHECKPOINTER,
            ((" and waiting > share and self._partition.ready:", " and waiting > share:"),),
            (f"{UNIT}/test_checkpointer.py::test_a_partition_that_catches_up_is_never_held_up",),
        ),
        Mutant(
            "room-shared",
            "each partition has the whole room",
            "agents/room.py",
            (("self._limit // max(1, len(self._holders))", "self._limit"),),
            (f"{UNIT}/test_checkpointer.py::test_partitions_share_their_room_evenly_until_one_is_given_up",),
        ),
        Mutant(
            "room-kept",
            "a partition that was given up keeps its share",
            CHECKPOINTER,
            (("        self._room.leave(self)\n", ""),),
            (f"{UNIT}/test_checkpointer.py::test_partitions_share_their_room_evenly_until_one_is_given_up",),
        ),
    ),
)

INTAKE = (ROOM,)
