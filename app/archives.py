"""The archive as the agents ask for it."""

from __future__ import annotations

import structlog

from domain.spec import TopicSpec
from sinks.archive.archive import Archive
from sinks.archive.recovery import CONFLICT
from sinks.base import LogSink

log = structlog.get_logger(__name__)


def tell_failure(path: str, error: Exception) -> None:
    """Of a file given up, or not finished yet; nothing is lost with it. Called from any thread."""
    log.warning("archive file given up or not finished yet", path=path, reason=str(error) or repr(error))


class ProcessArchives:
    """`agents.opening.Archives` on one process's archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def open(self, topic: TopicSpec, partition: int, start: int) -> LogSink:
        return self._archive.partition(topic.name, partition, start, topic.archive_window_ms)

    def recover(self, topic: str, partition: int) -> bool:
        done = self._archive.recover(topic, partition)
        for path in done.conflicts:
            log.error("archive file not recovered", path=path, reason=CONFLICT)
        if done.error is not None:
            raise done.error
        return not (done.waiting or done.taken)
