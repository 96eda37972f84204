"""docs/configuration.md and the model tell the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from app.config import INACTIVE, Duration, all_settings
from app.config.problems import Setting

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
LEAVES = [one for one in all_settings() if one.name in ROWS or one.section is None]
SIZES = {"sinks.archive.backlog_bytes", "sinks.archive.roll_bytes"}


def test_every_setting_has_a_row_and_every_row_a_setting() -> None:
    names = {one.name for one in all_settings()}
    sections = {one.name for one in all_settings() if one.section is not None}
    assert set(ROWS) <= names
    assert names - set(ROWS) <= sections


def test_every_section_has_a_heading() -> None:
    for one in all_settings():
        if one.section is not None and one.name not in ROWS:
            assert f"[{one.name}]" in PAGE


@pytest.mark.parametrize("setting", LEAVES, ids=lambda one: one.name)
def test_a_row_tells_the_default(setting: Setting) -> None:
    told = ROWS[setting.name]
    if setting.field.is_required():
        assert "required" in told
        return
    assert "required" not in told
    if setting.name.startswith("tables[]") and setting.field.default is None:
        return
    shown = text_of(setting.name, setting.field.default)
    assert shown is None or shown in told


def text_of(name: str, value: Any) -> str | None:
    if value in (None, "", ()):
        return None
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Duration):
        return '`"24h"`' if name == "tables[].retention" else f'`"{value}"`'
    if name in SIZES:
        return f'`"{value >> 20}MiB"`'
    return f"`{value}`" if isinstance(value, int) else f'`"{value}"`'


def test_every_setting_without_effect_is_listed() -> None:
    listed = PAGE.partition("## Settings without effect")[2]
    assert listed.count("\n* ") == len(INACTIVE)
    for name in ("state.backend",):
        assert f"`{name}" in listed
