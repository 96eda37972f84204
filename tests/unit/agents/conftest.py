"""Every test of the agents runs on the loop that skips idle time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.unit.agents.clock import SkippingLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"skipping": SkippingLoop}


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"
