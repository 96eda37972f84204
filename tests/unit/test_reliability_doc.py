"""docs/reliability.md tells of every named point."""

from __future__ import annotations

import re
from pathlib import Path

from domain.probe import Point

DOC = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_every_point_has_its_line_in_the_order_of_the_path() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", DOC.read_text(), re.MULTILINE) == [point.value for point in Point]
