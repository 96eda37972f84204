"""Settings that are understood but have no effect in this version: one line each, gone when the part is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.config.model import Backend, Config
from domain.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inactive:
    """`find` yields the dotted names a configuration sets; `refuses`: a worker can't start with them."""

    reason: str
    find: Callable[[Config], Iterator[str]]
    refuses: str = ""


def _redis(config: Config) -> Iterator[str]:
    if config.state.backend is Backend.REDIS:
        yield "state.backend"


INACTIVE = (Inactive("state can't be kept in Redis in this version", _redis, refuses='set state.backend = "rocksdb"'),)


@dataclass(frozen=True, slots=True)
class Found:
    setting: str
    reason: str
    refuses: str


def inactive_settings(config: Config) -> list[Found]:
    """The settings of this configuration that have no effect yet."""
    return [Found(name, one.reason, one.refuses) for one in INACTIVE for name in one.find(config)]


def refuse_inactive(config: Config) -> None:
    """Raise `ConfigError` if a setting without effect would change what a worker promises."""
    for found in inactive_settings(config):
        if found.refuses:
            raise ConfigError(found.setting, found.reason, found.refuses)
