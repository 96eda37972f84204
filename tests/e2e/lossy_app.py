"""The app with a transport that throws fetches away, as Faust does around a seek: `python -m tests.e2e.lossy_app`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app import cli
from app.transport import consumer
from domain.record import Batch
from tables import fetch

EVERY = 7


class _Thief:
    def __init__(self) -> None:
        self._seen = 0

    async def fetch(self, kafka: Any, wanted: Iterable[Any], timeout_s: float) -> list[Batch]:
        kept = []
        for batch in await fetch.fetch(kafka, wanted, timeout_s):
            self._seen += 1
            if self._seen % EVERY:
                kept.append(batch)
        return kept


if __name__ == "__main__":
    consumer.fetch = _Thief().fetch  # type: ignore[assignment,attr-defined]
    cli.main()
