"""What is wrong with a configuration, in words: which setting, what it holds, what it wants, what to write."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from app.config.model import Config
from domain.errors import ConfigError

GIVEN_MAX = 60
SECRETS = frozenset({"web.token", "state.password"})
WANTED = {
    "string_type": "wants text in quotes",
    "tuple_type": "wants a list",
    "model_type": "wants a section",
    "secret_type": "wants text in quotes",
    "string_sub_type": "wants text in quotes",
    "model_attributes_type": "wants a section",
}
Location = Sequence[str | int]


class ConfigProblemsError(ConfigError):
    """Everything that is wrong with one configuration."""

    def __init__(self, origin: str, problems: Sequence[ConfigError]) -> None:
        first = problems[0]
        super().__init__(first.setting, first.problem, first.fix)
        self.origin = origin
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([f"{self.origin}:", *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting the model knows; `name` is dotted, entries of a list stand as `[]`."""

    name: str
    field: FieldInfo

    @property
    def section(self) -> type[BaseModel] | None:
        return _model_in(self.field.annotation)

    @property
    def line(self) -> str:
        """What to write in the file, as TOML; empty if there is nothing to suggest."""
        last = self.name.rpartition(".")[2]
        if self.field.examples:
            return f"{last} = {self.field.examples[0]}"
        if self.section is not None:
            header = f"[[{self.name}]]" if _is_list(self.field.annotation) else f"[{self.name}]"
            inner = [one.line for one in all_settings(self.section) if "." not in one.name and one.field.is_required()]
            return f"{header} with {', '.join(inner)}" if inner else header
        default = self.field.default
        if default is None:
            return ""
        plain = isinstance(default, int) and type(default) in (int, bool)
        return f"{last} = {json.dumps(default if plain else str(default))}"


def all_settings(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Setting]:
    """Every setting and section, in the order of the model."""
    for attribute, field in section.model_fields.items():
        name = f"{prefix}{field.alias or attribute}"
        setting = Setting(name, field)
        yield setting
        if setting.section is not None:
            many = "[]" if _is_list(field.annotation) else ""
            yield from all_settings(setting.section, f"{name}{many}.")


def dotted(location: Location) -> str:
    """`tables[0].grace` from its parts."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def explain(error: ValidationError, variables: Mapping[str, str]) -> list[ConfigError]:
    """One problem per finding. `variables`: environment variables by the setting they override."""
    known = {setting.name: setting for setting in all_settings()}
    return [_problem(found, known, variables) for found in error.errors(include_url=False)]


def _problem(found: ErrorDetails, known: Mapping[str, Setting], variables: Mapping[str, str]) -> ConfigError:
    name = dotted(found["loc"])
    source = _variable(name, variables)
    if found["type"] == "extra_forbidden":
        return ConfigError(name, f"unknown setting{source}", _nearest(found["loc"], known))
    setting = known.get(_template(name))
    line = setting.line if setting else ""
    if found["type"] == "missing":
        return ConfigError(name, f"missing{source}", f"add {line}")
    context = found.get("ctx", {})
    fix = context.get("fix") or (f"such as {line}" if line else "")
    if found["type"] == "recount":
        wants = context["problem"]
    elif "expected" in context:
        wants, fix = f"wants {context['expected']}".replace("'", '"'), ""
    else:
        wants = WANTED.get(found["type"], found["msg"])
    given = "" if isinstance(found["input"], (dict, BaseModel)) else f"got {_given(name, found['input'])}, "
    return ConfigError(name or "settings", f"{given}{wants}{source}", fix)


def _given(name: str, value: Any) -> str:
    if name in SECRETS:
        return "***"
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = str(value)
    text = re.sub(r"://[^/@\s]*@", "://***@", text)
    return text if len(text) <= GIVEN_MAX else f"{text[:GIVEN_MAX]}…"


def _variable(name: str, variables: Mapping[str, str]) -> str:
    holders = [at for at in variables if name == at or name.startswith((f"{at}.", f"{at}["))]
    inside = [at for at in variables if at.startswith(f"{name}.")]
    at = max(holders, key=len) if holders else min(inside, default="")
    return f" (from {variables[at]})" if at else ""


def _nearest(location: Location, known: Mapping[str, Setting]) -> str:
    *parent, last = location
    name, place = str(last), dotted(parent)
    prefix = f"{place}." if place else ""
    siblings = [_last(full) for full in known if full == f"{_template(prefix)}{_last(full)}"]
    if close := difflib.get_close_matches(name, siblings, 1, 0.6):
        return f"did you mean {prefix}{close[0]}?"
    by_last = {_last(full): full for full in reversed(list(known))}
    if close := difflib.get_close_matches(name, by_last, 1, 0.75):
        return f"did you mean {by_last[close[0]]}?"
    return f"known here: {', '.join(siblings)}"


def _template(name: str) -> str:
    return re.sub(r"\[\d+\]", "[]", name).removesuffix("[]")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)


def _is_list(annotation: Any) -> bool:
    inner = get_args(annotation)
    return Ellipsis in inner or any(_is_list(one) for one in inner)
