"""Ends the process when its event loop is stuck: heartbeats go on in a thread of their own, and nothing is counted."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

import structlog

from app.cli_errors import ExitCode

log = structlog.get_logger(__name__)

POLL_S = 1.0
PATIENCE_S = 60.0
TELL_S = 2.0


class LoopWatch:
    """Counts polls without a beat of the loop, not seconds: a process that was stopped for a while isn't stuck."""

    def __init__(self, stuck: Callable[[], None], patience_s: float | None = None) -> None:
        self._stuck = stuck
        self._patience_s = PATIENCE_S if patience_s is None else patience_s
        self._beats = 0
        self._seen = -1
        self._missed = 0

    def beat(self) -> None:
        self._beats += 1

    def poll(self) -> None:
        """Once every `POLL_S`."""
        if self._beats != self._seen:
            self._seen, self._missed = self._beats, 0
            return
        self._missed += 1
        if self._missed * POLL_S >= self._patience_s:
            self._stuck()


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Watch the loop that runs in this thread, from another one, for ever."""
    runs_in = threading.get_ident()
    watch = LoopWatch(lambda: _end(runs_in))

    def beat() -> None:
        watch.beat()
        loop.call_later(POLL_S, beat)

    def poll_forever() -> None:
        while True:
            time.sleep(POLL_S)
            watch.poll()

    beat()
    threading.Thread(target=poll_forever, name="watchdog", daemon=True).start()


def _end(thread: int) -> None:
    # Apart: what blocks the loop may be the log itself.
    telling = threading.Thread(target=_tell, args=[sys._current_frames().get(thread)], daemon=True)  # noqa: SLF001
    telling.start()
    telling.join(TELL_S)
    os._exit(ExitCode.BUG)


def _tell(frame: FrameType | None) -> None:
    stack = "" if frame is None else "".join(traceback.format_stack(frame))
    log.critical("the event loop is stuck: ending the process", seconds=PATIENCE_S, stack=stack)
    sys.stderr.flush()
