"""A made-up stream of page views: believable, with every class of record in it, the same for the same seed.

The stream lasts `SPAN_MS` of event time. Most events come within seconds, all but a few within `DISORDER_MS`; a few
come after their window's grace (late) or retention (expired), and a few can't be read at all (malformed). One minute
of it is a burst.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from domain.record import Int64s

SEED = 7
MINUTE_MS = 60_000
WINDOW_MS = 5 * MINUTE_MS
GRACE_MS = 10 * MINUTE_MS
RETENTION_MS = 30 * MINUTE_MS
MAX_PAST_MS = 120 * MINUTE_MS
SPAN_MS = 90 * MINUTE_MS
DISORDER_MS = MINUTE_MS
BURST_AT, BURST_TIMES = 0.6, 6.0  # a place in the stream, and how many times busier that minute is

LATE_SHARE = 1e-3
EXPIRED_SHARE = 2e-4
MALFORMED_SHARE = 1e-4
# How far behind the stream, whatever the place in their window and the disorder of the others.
LATE_LAG_MS = (GRACE_MS + WINDOW_MS + 2 * DISORDER_MS, RETENTION_MS - DISORDER_MS)
EXPIRED_LAG_MS = (RETENTION_MS + WINDOW_MS + 2 * DISORDER_MS, MAX_PAST_MS - 30 * MINUTE_MS)

PAGES, USERS = 3000, 20_000
PAGE_SKEW, USER_SKEW = 1.05, 0.6
SLICE = 1000  # records formatted at a time: larger joins leave the processor's cache

SECTIONS = ("products", "blog", "docs", "help", "offers", "stores")
CITIES = (
    ("DE", "Berlin", 52.52, 13.405),
    ("CN", "Shanghai", 31.2304, 121.4737),
    ("BR", "São Paulo", -23.5505, -46.6333),
    ("IN", "Mumbai", 19.076, 72.8777),
    ("US", "Chicago", 41.8781, -87.6298),
    ("FR", "Orléans", 47.903, 1.9093),
    ("JP", "東京", 35.6762, 139.6503),
    ("NG", "Lagos", 6.5244, 3.3792),
)
DEVICES = (
    {"os": "android", "form": "phone"},
    {"os": "ios", "form": "phone"},
    {"os": "windows", "form": "desktop"},
    {"os": "macos", "form": "desktop"},
    {"os": "linux", "form": "desktop", "bot": True},
)
DEVICE_SHARES = (0.42, 0.27, 0.18, 0.1, 0.03)

Damage = Callable[[bytes, int], bytes | None]
MALFORMED: dict[str, Damage] = {
    "not JSON": lambda good, _: good[: len(good) // 2],
    "empty value": lambda _good, _: None,
    "no time": lambda good, _: good.replace(b'"ts":', b'"when":'),
    "not UTF-8": lambda good, _: good.replace(b'"page":"', b'"page":"\xff\xfe'),
    "nested too deep": lambda good, _: good[:-1] + b',"trace":' + b"[" * 70 + b"]" * 70 + b"}",
    "time of another type": lambda good, at: good.replace(b'"ts":%d' % at, b'"ts":"%d"' % at),
    "implausible time": lambda good, at: good.replace(b'"ts":%d' % at, b'"ts":%d' % (at // 1000)),
}


@dataclass(frozen=True, slots=True)
class Column:
    """Records for one partition, in order."""

    timestamps: list[int]
    keys: list[bytes]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)


class Stream:
    """All events as columns of numbers; `records` spells them out slice by slice."""

    def __init__(self, count: int, end_ms: int, partitions: int, seed: int = SEED) -> None:
        rng = np.random.default_rng(seed)
        self.count = count
        self.start_ms, self.end_ms = end_ms - SPAN_MS, end_ms
        self.arrivals = _arrivals(rng, count, self.start_ms)
        self.times = self.arrivals - _delays(rng, count)
        self.malformed = self._displace(rng)
        self._users = _zipf(rng, count, USERS, USER_SKEW)
        self._pages = _zipf(rng, count, PAGES, PAGE_SKEW)
        self._devices = rng.choice(len(DEVICES), count, p=DEVICE_SHARES)
        self._ids = rng.integers(0, 1 << 62, count)
        self.partitions = partitions
        self._homes = rng.integers(0, partitions, USERS)  # a user's events stay in one partition, in order
        self._user_text = _user_texts(rng)
        self._page_text = _page_texts(rng)
        self._device_text = [json.dumps(one, separators=(",", ":")).encode()[1:-1] for one in DEVICES]

    def _displace(self, rng: np.random.Generator) -> dict[int, str]:
        """Make some events late and some expired; returns the malformed ones with their kinds."""
        since_start = self.arrivals - self.start_ms
        ordinary = np.ones(self.count, bool)
        for share, (low, high) in ((LATE_SHARE, LATE_LAG_MS), (EXPIRED_SHARE, EXPIRED_LAG_MS)):
            # Only events with enough stream before them, so that no window precedes the stream.
            fit = np.flatnonzero(ordinary & (since_start > low + MINUTE_MS))
            chosen = rng.choice(fit, min(len(fit), _few(self.count, share, 2)), replace=False)
            lags = rng.integers(low, np.minimum(high, since_start[chosen])) if len(chosen) else chosen
            self.times[chosen] = self.arrivals[chosen] - lags
            ordinary[chosen] = False
        broken = rng.choice(np.flatnonzero(ordinary), _few(self.count, MALFORMED_SHARE, len(MALFORMED)), replace=False)
        kinds = list(MALFORMED)
        return {int(at): kinds[number % len(kinds)] for number, at in enumerate(broken)}

    def records(self, first: int, last: int) -> list[Column]:
        """The records [first, last), one column per partition."""
        users = self._users[first:last]
        homes = self._homes[users]
        values: list[bytes | None] = []
        for start in range(first, last, SLICE):
            values += self._values(start, min(start + SLICE, last))
        for at, kind in self.malformed.items():
            if first <= at < last:
                good = values[at - first]
                assert good is not None
                values[at - first] = MALFORMED[kind](good, int(self.times[at]))
        columns = []
        for partition in range(self.partitions):
            mine = np.flatnonzero(homes == partition)
            timestamps = self.arrivals[first:last][mine].tolist()
            keys = [b"u%d" % user for user in users[mine].tolist()]
            columns.append(Column(timestamps, keys, [values[i] for i in mine.tolist()]))
        return columns

    @property
    def favourite_page(self) -> str:
        return self._page_text[0].decode()

    def slices(self, size: int) -> Iterator[list[Column]]:
        for first in range(0, self.count, size):
            yield self.records(first, min(first + size, self.count))

    def _values(self, first: int, last: int) -> list[bytes]:
        """One format string for many records beats one per record."""
        rows = zip(
            self._ids[first:last].tolist(),
            self.times[first:last].tolist(),
            map(self._page_text.__getitem__, self._pages[first:last].tolist()),
            map(self._user_text.__getitem__, self._users[first:last].tolist()),
            map(self._device_text.__getitem__, self._devices[first:last].tolist()),
            strict=True,
        )
        pattern = b'{"id":"%016x","ts":%d,"page":"%s",%s,%s}\n' * (last - first)
        return (pattern % tuple(chain.from_iterable(rows))).split(b"\n")[:-1]


def _few(count: int, share: float, least: int) -> int:
    return min(max(round(count * share), least), count // 10)


def _arrivals(rng: np.random.Generator, count: int, start_ms: int) -> Int64s:
    """Ascending times at which the events arrive: busier and quieter minutes, and the burst."""
    minutes = SPAN_MS // MINUTE_MS
    rate = 1 + 0.3 * np.sin(np.arange(minutes) / 7) + rng.uniform(-0.1, 0.1, minutes)
    rate[int(minutes * BURST_AT)] *= BURST_TIMES
    reached = np.concatenate(([0.0], np.cumsum(rate))) / rate.sum()
    places = np.sort(rng.random(count))
    at: Int64s = (np.interp(places, reached, np.arange(minutes + 1)) * MINUTE_MS).astype(np.int64)
    return at + start_ms


def _delays(rng: np.random.Generator, count: int) -> Int64s:
    """Between event and arrival: mostly seconds, never more than the disorder."""
    return np.minimum(rng.exponential(8000, count), DISORDER_MS).astype(np.int64)


def _zipf(rng: np.random.Generator, count: int, kinds: int, skew: float) -> npt.NDArray[np.int64]:
    weights = 1 / np.arange(1, kinds + 1) ** skew
    reached = np.cumsum(weights) / weights.sum()
    return np.minimum(np.searchsorted(reached, rng.random(count)), kinds - 1)


def _page_texts(rng: np.random.Generator) -> list[bytes]:
    sections = rng.integers(0, len(SECTIONS), PAGES).tolist()
    return [f"/{SECTIONS[section]}/{number}".encode() for number, section in enumerate(sections)]


def _user_texts(rng: np.random.Generator) -> list[bytes]:
    """What all events of a user share, as JSON fields."""
    cities = rng.integers(0, len(CITIES), USERS).tolist()
    offsets = rng.normal(0, 0.05, (USERS, 2)).tolist()
    texts = []
    for number, (city, (north, east)) in enumerate(zip(cities, offsets, strict=True)):
        country, name, lat, lon = CITIES[city]
        geo = {"city": name, "at": {"lat": round(lat + north, 4), "lon": round(lon + east, 4)}}
        fields = {"user": f"u{number}", "country": country, "geo": geo}
        texts.append(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()[1:-1])
    return texts
