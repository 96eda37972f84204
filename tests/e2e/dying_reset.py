"""`recount` with a reset that dies once it has done a step: `python -m tests.e2e.dying_reset STEP reset ...`."""

from __future__ import annotations

import os
import signal
import sys

from app import cli, cli_reset
from app.reset import Step
from tables import reset


def main() -> None:
    last = Step[sys.argv.pop(1)]

    def die(step: Step) -> None:
        if step is last:
            os.kill(os.getpid(), signal.SIGKILL)

    cli_reset._unnoticed = die  # type: ignore[assignment]
    reset.ROWS_MAX = 700  # several transactions
    cli.main()


if __name__ == "__main__":
    main()
