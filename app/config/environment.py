"""Settings from environment variables: `RECOUNT__SECTION__FIELD`, into lists `RECOUNT__TABLES__0__GRACE`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from app.config.model import Config
from app.config.problems import dotted
from app.config.units import EnvText
from domain.errors import ConfigError

PREFIX = "RECOUNT__"
DELIMITER = "__"


class _Shape(Config, BaseSettings):  # type: ignore[misc]  # both say what their config is
    """The model as pydantic-settings wants to see it; never filled."""


class _Variables(EnvSettingsSource):
    """Reads the environment it is given, and leaves a value that isn't JSON to the model's own error."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(_Shape, case_sensitive=False, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ARG002
        try:
            return json.loads(value)
        except ValueError:
            return value


def variables_in(environ: Mapping[str, str]) -> dict[str, str]:
    """Our variables by the dotted setting each overrides."""
    return {dotted(_location(name)): name for name in environ if name.upper().startswith(PREFIX)}


def overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the environment sets, nested as the file is. Unknown names are kept: the model refuses them."""
    ours = {name: value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    found: dict[str, Any] = _mark(_Variables(ours)())
    for name, value in ours.items():
        first, *rest = _location(name)
        if first not in Config.model_fields:
            nested: Any = EnvText(value)
            for part in reversed(rest):
                nested = {str(part): nested}
            found[str(first)] = nested
    return found


def overlay(base: Any, over: Any, at: str = "") -> Any:
    """`over` laid on `base`; numbered entries go into a list, the next free number adds one."""
    if not isinstance(over, dict):
        return over
    numbered = bool(over) and all(name.isdecimal() for name in over)
    if numbered and (base is None or isinstance(base, list)):
        merged = list(base or ())
        for index in sorted(int(name) for name in over):
            if index > len(merged):
                raise ConfigError(
                    f"{at}[{index}]", f"the list has {len(merged)} entries", f"the next is {at}[{len(merged)}]"
                )
            merged[index : index + 1] = [overlay(_entry(merged, index), over[str(index)], f"{at}[{index}]")]
        return merged
    under = base if isinstance(base, dict) else {}
    return {
        **under,
        **{name: overlay(under.get(name), value, f"{at}.{name}".strip(".")) for name, value in over.items()},
    }


def _entry(entries: list[Any], index: int) -> Any:
    return entries[index] if index < len(entries) else None


def _location(name: str) -> list[str | int]:
    parts = name[len(PREFIX) :].lower().split(DELIMITER)
    return [int(part) if part.isdecimal() else part for part in parts]


def _mark(value: Any) -> Any:
    """Text as `EnvText`; below a list, where the library decodes nothing, JSON lists and objects decoded."""
    if isinstance(value, dict):
        return {name: _mark(inner) for name, inner in value.items()}
    if isinstance(value, str):
        if value.startswith(("[", "{")):
            try:
                return json.loads(value)
            except ValueError:
                pass
        return EnvText(value)
    return value
