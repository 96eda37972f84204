"""Our packages are the ones that are imported, and all of them are listed to be installed."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL = ("domain", "tables", "sinks", "agents", "app", "lab")
NO_PACKAGES = ("tests.spec",)  # installed for the checks of a running service; not a package of the product


def listed() -> set[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return set(tomllib.load(file)["tool"]["setuptools"]["packages"])


def on_disk() -> set[str]:
    modules = {path for top in TOP_LEVEL for path in (ROOT / top).rglob("*.py")}
    return {".".join(path.relative_to(ROOT).parent.parts) for path in modules}


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_a_package_is_imported_from_this_repository(name: str) -> None:
    # PyTables is called `tables` too.
    found = importlib.import_module(name).__file__
    assert found is not None
    assert Path(found).resolve() == ROOT.resolve() / name / "__init__.py"


def test_the_packages_on_disk_are_those_listed() -> None:
    assert on_disk() == listed() - set(NO_PACKAGES)


def test_every_listed_package_has_its_file() -> None:
    assert [name for name in sorted(on_disk()) if not (ROOT / name.replace(".", "/") / "__init__.py").is_file()] == []


def test_the_domain_knows_no_clock_client_or_framework() -> None:
    allowed = {"__future__", "domain", "msgspec", "numpy"}
    allowed |= {"collections", "dataclasses", "datetime", "enum", "hashlib", "itertools", "json", "math", "operator"}
    allowed |= {"re", "struct", "typing", "zlib"}
    for path in (ROOT / "domain").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path.name
