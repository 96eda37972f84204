"""Commands run as a person runs them, beside the workers."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.scene import Scene
from tests.e2e.workers import ROOT

DEADLINE_S = 120.0


def recount(
    scene: Scene, *arguments: str, module: tuple[str, ...] = ("app",), instance: str = "ops"
) -> tuple[int, str]:
    """Exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *module, *arguments, "--config", str(scene.config)],
        cwd=ROOT,
        env={**os.environ, "RECOUNT__APP__INSTANCE": instance},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr
