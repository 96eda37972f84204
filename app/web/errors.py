"""A request that can't be answered as asked: told to the caller, never a fault of the service."""

from __future__ import annotations

from domain.errors import RecountError, RetriableError


class RequestError(RecountError):
    """`status` is the HTTP status; `what`, `why` and `fix` are the JSON body."""

    def __init__(self, status: int, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}. {fix}")
        self.status = status
        self.what = what
        self.why = why
        self.fix = fix


class PeerError(RetriableError):
    """Another worker gave no usable answer within the deadline."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.url = url
        self.reason = reason
