"""Values written as text in the configuration: durations, sizes, times, addresses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
UNIT_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
DURATION_MAX_MS = 36_500 * UNIT_MS["d"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unfit(problem: str, fix: str = "") -> PydanticCustomError:
    """Why a value is refused; the loader adds the setting and what was given."""
    return PydanticCustomError("recount", "{problem}", {"problem": problem, "fix": fix})


class EnvText(str):
    """Text of an environment variable: the only text taken for a number or a boolean."""

    __slots__ = ()


class Duration(int):
    """Milliseconds, written `10s` in the configuration."""

    __slots__ = ()

    @property
    def ms(self) -> int:
        return int(self)

    @property
    def seconds(self) -> float:
        return int(self) / 1000

    def __str__(self) -> str:
        for unit, size in reversed(UNIT_MS.items()):
            if self and not int(self) % size:
                return f"{int(self) // size}{unit}"
        return "0s"

    @classmethod
    def parse(cls, value: object) -> Duration:
        if isinstance(value, Duration):
            return value
        match = re.fullmatch(r"([0-9]{1,18})(ms|s|m|h|d)", value) if isinstance(value, str) else None
        if match is None:
            raise unfit("wants a duration", 'write a whole number and ms, s, m, h or d, such as "10s"')
        duration = cls(int(match[1]) * UNIT_MS[match[2]])
        if duration > DURATION_MAX_MS:
            raise unfit(f"wants at most {cls(DURATION_MAX_MS)}")
        return duration

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)


def parse_bytes(value: object) -> int:
    """Bytes from `256MiB` or a plain whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = re.fullmatch(r"([0-9]{1,15}) ?(B|KiB|MiB|GiB|TiB|)", value) if isinstance(value, str) else None
        if match is None:
            raise unfit("wants a size in bytes", 'write a whole number and KiB, MiB or GiB, such as "256MiB"')
        number = int(match[1]) * UNIT_BYTES[match[2]]
    if number < 1:
        raise unfit("wants at least 1 byte")
    return number


def parse_start_ms(value: object) -> int | None:
    """None for `earliest`, else the milliseconds of a UTC time."""
    if value == "earliest" or value is None:
        return None
    if value in ("latest", "now"):
        # Where the log ended at the first start is no input of the function: a replay can't know it.
        raise unfit("a start must mean the same on every run", 'write "earliest" or a UTC time')
    moment: object = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime):
        raise unfit('wants "earliest" or a UTC time', 'write for example start = "2026-11-23T08:00:00Z"')
    if moment.tzinfo is None:
        raise unfit("it has no zone", f'write "{moment.isoformat()}Z" if it is UTC')
    if moment.utcoffset():
        raise unfit("it isn't in UTC", f'write "{moment.astimezone(UTC).isoformat().replace("+00:00", "Z")}"')
    start_ms, rest = divmod(moment - EPOCH, timedelta(milliseconds=1))
    if rest or start_ms < 0:
        raise unfit("wants whole milliseconds since 1970")
    return start_ms


def parse_address(value: object, lowest_port: int = 1) -> tuple[str, int]:
    """Host and port from `host:port`; IPv6 hosts stand in brackets."""
    match = (
        re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", value) if isinstance(value, str) else None
    )
    if match is None or not lowest_port <= int(match[2]) <= 65_535:
        raise unfit("wants host:port", 'such as "127.0.0.1:9092"')
    return match[1].strip("[]"), int(match[2])
