"""Whether a source's log is still the one that was counted."""

from __future__ import annotations

from collections.abc import Sequence

from agents.source import Place, Source
from domain.errors import RefusedError
from domain.progress import FollowerProgress, StateProgress, record_crc
from tables.changelog import Bounds


async def check_counted(
    source: Source, place: Place, bounds: Bounds, progress: Sequence[StateProgress | FollowerProgress]
) -> None:
    """Raises `RefusedError` for a log that ends before what was read of it, or has another record at the witness."""
    # A start was never read: it may lie past the end, which grows, and which open transactions hold back.
    furthest = max((one.next_offset for one in progress if one.next_offset > one.start), default=0)
    if furthest > bounds.end:
        raise recreated(place, f"the log ends at {bounds.end}, but was counted up to {furthest}")
    witnesses = [one.witness for one in progress if isinstance(one, StateProgress) and one.witness is not None]
    witness = max(witnesses, key=lambda one: one.offset, default=None)
    if witness is None or witness.offset < bounds.begin:
        return
    record = await source.record_at(place, witness.offset)
    if record is None:
        # Only compaction takes a record out of the middle of a log; where there is none, a new log has a marker there.
        if not await source.compacts(place.topic):
            raise recreated(place, f"record {witness.offset}, which was counted, is not in it")
    elif (record.timestamp, record_crc(record.key, record.value)) != (witness.timestamp, witness.crc):
        raise recreated(place, f"record {witness.offset} is not the one that was counted")


def recreated(place: Place, why: str) -> RefusedError:
    """The topic isn't the one that was counted."""
    return RefusedError(
        f"topic {place.topic} was re-created or truncated",
        f"{place}: {why}",
        "Restore the topic; or count the new one, the old one's archive is kept apart:"
        f" recount reset --topic {place.topic}",
    )
