"""Commands run as a person runs them, beside the workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.e2e.scene import Scene
from tests.e2e.workers import ROOT

DEADLINE_S = 120.0


def recount(
    scene: Scene, *arguments: str, module: tuple[str, ...] = ("app",), instance: str = "ops"
) -> tuple[int, str]:
    """Exit code and what it said."""
    environment = {**os.environ, "RECOUNT__APP__INSTANCE": instance}
    return run([*module, *arguments, "--config", str(scene.config)], environment)


def run(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> tuple[int, str]:
    """Exit code and what it said, of `python -m` and these."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr
