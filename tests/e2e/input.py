"""Known input: records of every class and many kinds of odd ones, from a seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

WINDOW_MS = 60_000
STEP_MS = 20
ODD_PAGES = ("/new\nline", "/tab\tstop", "/nul\x00", "/ü/日本", '/q"uote\\', "", "/\u2028", "/" + "x" * 4095)
ODD_KAFKA_KEYS = (None, b"", b"\xff\xfe", b"a\tb\nc\rd\x00", b"\\N", "ü".encode())


@dataclass(frozen=True)
class Sent:
    """A record as handed to Kafka."""

    partition: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def malformed(r: Random, at_ms: int) -> bytes | None:
    """A record without an event or without a plausible time."""
    return r.choice(
        (
            None,
            b"",
            b"not json",
            b"[1, 2]",
            b'"text"',
            b'{"page": "/a"}',
            b'{"ts": "%d", "page": "/a"}' % at_ms,
            b'{"ts": null, "page": "/a"}',
            b'{"ts": true, "page": "/a"}',
            b'{"ts": %d.5, "page": "/a"}' % at_ms,
            b'{"ts": 0, "page": "/a"}',
            b'{"ts": %d, "page": "/a"}' % (at_ms + 3_600_000),
            b'{"ts": %d, "page": "\xff"}' % at_ms,
            b'{"ts": %d, "page": "/a"' % at_ms,
            b'{"ts": %d, "page": NaN}' % at_ms,
            b'{"ts": %d, "n": %s}' % (at_ms, b"7" * 5000),
            b'{"ts": %d, "deep": %s%s}' % (at_ms, b"[" * 70, b"]" * 70),
            b'{"ts": %d}\n{"ts": %d}' % (at_ms, at_ms),
            b'\xef\xbb\xbf{"ts": %d}' % at_ms,
        )
    )


@dataclass(frozen=True)
class Shares:
    """Of a thousand records; `jitter_ms` is by how much the others are out of order."""

    malformed: int = 20
    late: int = 80  # mostly
    expired: int = 40
    implausible: int = 5
    jitter_ms: int = 5_000


class Input:
    """Records in order; their clock starts at `base_ms` and goes `step_ms` a record."""

    def __init__(
        self, seed: int, partitions: int, base_ms: int, step_ms: int = STEP_MS, shares: Shares | None = None
    ) -> None:
        self._random = Random(seed)
        self._shares = shares or Shares()
        self.partitions = partitions
        self._at_ms = base_ms
        self._step_ms = step_ms

    def next(self) -> Sent:
        r, shares = self._random, self._shares
        self._at_ms += self._step_ms
        partition = r.randrange(self.partitions)
        chance = r.randrange(1000)
        if chance < shares.malformed:
            return Sent(partition, self._at_ms, None, malformed(r, self._at_ms))
        lag_ms = r.randrange(shares.jitter_ms)
        if (kind := chance - shares.malformed) < shares.late:
            lag_ms = r.randrange(70_000, 170_000)
        elif (kind := kind - shares.late) < shares.expired:
            lag_ms = r.randrange(300_000, 590_000)
        elif kind - shares.expired < shares.implausible:
            lag_ms = r.randrange(610_000, 900_000)  # before max_past: malformed
        event: dict[str, object] = {
            "ts": self._at_ms - lag_ms,
            "page": f"/{int(r.paretovariate(0.8)) % 60}",
            "user": r.randrange(40),
            "id": r.choice((f"e{r.randrange(3000)}", r.randrange(3000))),
        }
        if chance % 37 == 0:
            event["page"] = r.choice(ODD_PAGES)
        if chance % 41 == 0:
            event.pop(r.choice(("page", "user", "id")))
        if chance % 43 == 0:
            event[r.choice(("page", "user", "id"))] = r.choice((None, True, 1.5, [], {}, 10**30, "x" * 5000))
        if chance % 13 == 0:
            event["bot"] = r.choice((True, False, None))
        if chance % 101 == 0:
            event["filler"] = "x" * 20_000
        key = r.choice(ODD_KAFKA_KEYS) if chance % 17 == 0 else b"sender-%d" % r.randrange(8)
        return Sent(partition, self._at_ms, key, json.dumps(event, ensure_ascii=chance % 2 == 0).encode())
