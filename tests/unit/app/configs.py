"""A small right configuration, and ways to make it wrong."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from typing import Any

from app.config import MINIMAL, Config, ConfigProblemsError, parse_config
from app.config.environment import overlay
from domain.errors import ConfigError

HOST = "host-1"


def load(text: str = MINIMAL, environ: Mapping[str, str] | None = None) -> Config:
    return parse_config(text, environ=environ or {}, host_name=HOST)


def problems(text: str, environ: Mapping[str, str] | None = None) -> dict[str, ConfigError]:
    """The problems of a refused configuration, by setting."""
    try:
        load(text, environ)
    except ConfigProblemsError as err:
        return {problem.setting: problem for problem in err.problems}
    raise AssertionError(f"not refused:\n{text}")


def patched(patch: str) -> str:
    """The minimal configuration with the TOML of `patch` laid over it; `tables.0` names an entry of a list."""
    merged = overlay(tomllib.loads(MINIMAL), tomllib.loads(patch))
    return to_toml(merged)


def to_toml(value: dict[str, Any]) -> str:
    return "\n".join(f"{key} = {inline(one)}" for key, one in copy.deepcopy(value).items())


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {inline(one)}' for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
