"""Names in the archive: they carry topic, partition, window, offsets and owner.

    <root>/<topic>/dt=2026-11-23/hm=0805/<topic>+<partition>+<first>+<last>.<attempt>.log   committed
    <root>/<topic>/malformed/dt=2026-11-23/…                                                the malformed, by day
    <root>/<topic>/_open/<partition>/<attempt>+<slot>+<first>.log                           being written
    <root>/<topic>/_open/<partition>/<attempt>+<slot>+<first>+<claimer>.log                 being recovered
    <root>/<topic>/_open/<partition>/<attempt>+<slot>+<first>+<claimer>.copy                whole lines of a torn one
    <root>/<topic>/_torn/<partition>/…                                                      torn originals
    <root>/<topic>/_ledger/<partition>/<attempt>.log

A slot is a window start in ms or `malformed-<day>`. An attempt is 16 hex digits, random per process and assignment;
`x<n>` behind it tells apart the files written anew after n write errors.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from domain.spec import TIME_END_MS

DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ATTEMPT = r"(?P<attempt>[0-9a-f]{16}(?:x[1-9]\d*)?)"
_SLOT = r"(?:(?P<start>\d{15})|malformed-(?P<day>\d{4}-\d\d-\d\d))"
_OPEN = re.compile(rf"{_ATTEMPT}\+{_SLOT}\+(?P<first>\d{{19}})(?:\+(?P<claimer>[0-9a-f]{{16}}))?\.(?P<kind>log|copy)")
_FINAL = re.compile(
    rf"(?P<topic>[A-Za-z0-9._-]+)\+(?P<partition>\d+)\+(?P<first>\d{{19}})\+(?P<last>\d{{19}})\.{_ATTEMPT}\.log"
)
_FOLDER = re.compile(r"(?:malformed/dt=(?P<day>\d{4}-\d\d-\d\d)|dt=(?P<date>\d{4}-\d\d-\d\d)/hm=(?P<hm>\d{4}))")
_LEDGER = re.compile(rf"{_ATTEMPT}\.log")


def random_token() -> str:
    """Return 16 hex digits nobody else has: an attempt, or the name of a claimer."""
    return secrets.token_hex(8)


def attempt_of(token: str) -> str:
    """Return the attempt without the count of its write errors."""
    return token.partition("x")[0]


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """What one file at a time is open for: an archive window, or a day of malformed records."""

    malformed: bool
    start_ms: int

    @property
    def folder(self) -> str:
        at = EPOCH + timedelta(milliseconds=self.start_ms)
        return f"malformed/dt={at:%Y-%m-%d}" if self.malformed else f"dt={at:%Y-%m-%d}/hm={at:%H%M}"

    def end_ms(self, window_ms: int) -> int:
        return self.start_ms + (DAY_MS if self.malformed else window_ms)

    def __str__(self) -> str:
        if self.malformed:
            return f"malformed-{EPOCH + timedelta(milliseconds=self.start_ms):%Y-%m-%d}"
        return f"{self.start_ms:015d}"

    @classmethod
    def of_text(cls, start: str | None, day: str | None) -> Slot:
        if day is None:
            assert start is not None
            return cls(False, int(start))
        return cls(True, _ms(day, "0000"))


@dataclass(frozen=True, slots=True)
class PartName:
    """One file of lines through its life."""

    topic: str
    partition: int
    slot: Slot
    first: int
    attempt: str
    claimer: str | None = None
    is_copy: bool = False
    last: int | None = None  # known from commit on

    @property
    def ledger_key(self) -> str:
        """Name the file in ledger lines: the same before and after commit, and for the copy of a torn one."""
        return f"{self.attempt}+{self.slot}+{self.first:019d}"

    def open_path(self, root: str) -> str:
        claim = f"+{self.claimer}" if self.claimer else ""
        kind = "copy" if self.is_copy else "log"
        return f"{open_folder(root, self.topic, self.partition)}/{self.ledger_key}{claim}.{kind}"

    def torn_path(self, root: str) -> str:
        return f"{root}/{self.topic}/_torn/{self.partition}/{self.open_path('').rpartition('/')[2]}"

    def final_path(self, root: str, last: int) -> str:
        name = f"{self.topic}+{self.partition}+{self.first:019d}+{last:019d}.{self.attempt}.log"
        return f"{root}/{self.topic}/{self.slot.folder}/{name}"

    def claimed(self, claimer: str) -> PartName:
        return replace(self, claimer=claimer)

    def copy(self) -> PartName:
        return replace(self, is_copy=True)


def topic_folder(root: str, topic: str) -> str:
    return f"{root}/{topic}"


def open_folder(root: str, topic: str, partition: int | None = None) -> str:
    folder = f"{root}/{topic}/_open"
    return folder if partition is None else f"{folder}/{partition}"


def ledger_folder(root: str, topic: str, partition: int) -> str:
    return f"{root}/{topic}/_ledger/{partition}"


def ledger_path(root: str, topic: str, partition: int, attempt: str) -> str:
    return f"{ledger_folder(root, topic, partition)}/{attempt}.log"


def parse_open(topic: str, partition: int, name: str) -> PartName | None:
    """Return what a name in `_open/<partition>` says; None for a file that isn't ours."""
    match = _OPEN.fullmatch(name)
    if match is None:
        return None
    slot = Slot.of_text(match["start"], match["day"])
    is_copy = match["kind"] == "copy"
    return PartName(topic, partition, slot, int(match["first"]), match["attempt"], match["claimer"], is_copy)


def parse_final(folder: str, name: str) -> PartName | None:
    """Return what a committed file's folder (below the topic's) and name say; None for a file that isn't ours."""
    where, match = _FOLDER.fullmatch(folder), _FINAL.fullmatch(name)
    if where is None or match is None:
        return None
    slot = Slot(True, _ms(where["day"], "0000")) if where["day"] else Slot(False, _ms(where["date"], where["hm"]))
    part = PartName(match["topic"], int(match["partition"]), slot, int(match["first"]), match["attempt"])
    return replace(part, last=int(match["last"]))


def parse_ledger(name: str) -> str | None:
    """Return the attempt of a ledger file's name; None for a file that isn't ours."""
    match = _LEDGER.fullmatch(name)
    return match["attempt"] if match else None


def clamped_day_ms(timestamp_ms: int) -> int:
    """Return the start of the day malformed records of a Kafka timestamp lie under."""
    return min(max(timestamp_ms, 0), TIME_END_MS - 1) // DAY_MS * DAY_MS


def _ms(date: str, hm: str) -> int:
    at = datetime.strptime(f"{date} {hm}", "%Y-%m-%d %H%M").replace(tzinfo=UTC)
    return (at - EPOCH) // timedelta(milliseconds=1)
