"""The oracle that tests compare with is the specification, unchanged."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPY = ROOT / "tests" / "spec" / "oracle.py"
ORIGINAL = ROOT.parent / "shared" / "spec" / "oracle.py"
SHA256 = "def5d988414bfde0b72adea4c7941a0c3187a6ff135871cfcc752944c9a78e37"


def test_the_copy_of_the_oracle_is_the_committed_one() -> None:
    assert hashlib.sha256(COPY.read_bytes()).hexdigest() == SHA256


def test_the_copy_of_the_oracle_equals_the_original_where_it_is_at_hand() -> None:
    original = ORIGINAL.read_bytes() if ORIGINAL.exists() else COPY.read_bytes()
    assert hashlib.sha256(original).hexdigest() == SHA256
