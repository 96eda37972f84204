"""Named points in the path of an event at which a process may die.

Real code calls the probe it was given at each of them, at most once a batch, file, chunk or checkpoint.
`docs/reliability.md` says what a death there must not do.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Each is named by the last thing done."""

    # A batch.
    BATCH_FETCHED = "batch-fetched"  # and handed to its partition's owner
    TABLE_FOLDED = "table-folded"  # into one table; the next ones lack it
    # A checkpoint.
    CHECKPOINT_CUT = "checkpoint-cut"  # the dirty sets are swapped out, nothing is sent
    ROWS_SENT = "rows-sent"  # to Kafka, no answer awaited
    ROWS_ACKED = "rows-acked"  # all of them; the transaction is open
    COMMIT_BEGUN = "commit-begun"  # the call that ends the transaction comes next; a moment later it is on its way
    ROWS_COMMITTED = "rows-committed"  # the store lacks them
    ROWS_APPLIED = "rows-applied"  # to the store; nobody is told yet
    # The archive.
    LINES_WRITTEN = "lines-written"  # to the open files, not durable
    LINES_SYNCED = "lines-synced"  # durable, the ledger lacks them
    LEDGER_SYNCED = "ledger-synced"  # progress lacks them
    PART_CLOSED = "part-closed"  # under its open name
    PART_PUBLISHED = "part-published"  # under its final name
    # Files that a dead owner left open.
    ORPHANS_CLAIMED = "orphans-claimed"
    LEASES_TAKEN = "leases-taken"
    WHOLE_LINES_COPIED = "whole-lines-copied"  # of a torn file, under an open name
    COPY_PUBLISHED = "copy-published"  # the torn original still has its open name
    # HBase.
    EVENTS_PARTLY_PUT = "events-partly-put"  # a full chunk of a sync's records
    COUNTS_TAKEN = "counts-taken"  # a chunk of cells was taken to be put, HBase has none of it
    CELLS_PUT = "cells-put"  # a chunk; certificates and frontier aren't
    CERTIFICATES_PUT = "certificates-put"  # a chunk; the frontier isn't
    FRONTIER_PUT = "frontier-put"  # counts progress lacks it
    # A partition taken over.
    PARTITION_ASSIGNED = "partition-assigned"  # to us; whoever had it before isn't fenced yet
    WRITER_FENCED = "writer-fenced"  # the one before, by InitProducerId; nothing is restored
    ROWS_PARTLY_RESTORED = "rows-partly-restored"  # a chunk
    PARTITION_RESTORED = "partition-restored"  # nothing is committed or folded
    # A partition given up.
    LOGS_CLOSED = "logs-closed"  # the last checkpoint isn't cut
    LAST_CHECKPOINT_DONE = "last-checkpoint-done"  # HBase lacks its counts


Probe = Callable[[Point], None]
"""Called from any thread; returns at once."""


def no_probe(point: Point) -> None:
    """What runs outside of tests."""
