"""Errors by what the caller does about them. Raised with facts, not sentences."""

from __future__ import annotations


class RecountError(Exception):
    """Base of every error of ours."""


class RetriableError(RecountError):
    """Try the same call again later; nothing was lost."""


class SinkUnavailableError(RetriableError):
    """The store behind a sink doesn't answer. Writing the same batch again changes nothing."""

    def __init__(self, sink: str, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"{sink}: {reason}")
        self.sink = sink
        self.reason = reason
        self.retry_after_s = retry_after_s


class TaintedError(RetriableError):
    """A commit whose outcome is unknown: drop the producer, initialise again, restore."""


class FencedError(RecountError):
    """Somebody initialised after us: drop the partition, write nothing more."""


class MalformedRecordError(RecountError):
    """A record that has no event or no plausible time: tallied and archived, never raised past the fold."""


class CorruptRowError(RecountError):
    """A row of ours that can't be parsed: the store is damaged or from a newer version."""


class RefusedError(RecountError):
    """Going on would give a wrong count. `why` says what is known, `fix` the command or setting that goes on."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}. {fix}")
        self.what = what
        self.why = why
        self.fix = fix


class DependencyError(RecountError):
    """A server needed to start isn't reachable."""

    def __init__(self, server: str, reason: str, fix: str) -> None:
        super().__init__(f"{server}: {reason}. {fix}")
        self.server = server
        self.reason = reason
        self.fix = fix


class DiskError(RecountError):
    """A local folder can't be written or read: its disk is full or broken. It holds a cache of the changelog."""

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(f"{folder}: {reason}; make room there, or make it writable, then start again")
        self.folder = folder
        self.reason = reason


class ConfigError(RecountError):
    """A setting is wrong. `setting` is its dotted name, `fix` what to write instead."""

    def __init__(self, setting: str, problem: str, fix: str = "") -> None:
        super().__init__(f"{setting}: {problem}" + (f"; {fix}" if fix else ""))
        self.setting = setting
        self.problem = problem
        self.fix = fix
