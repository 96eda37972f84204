"""The app, with a trap if one is given: `python -m tests.e2e.faults.probed_worker worker … [--trap=JSON]`."""

from __future__ import annotations

import sys
from functools import partial

import msgspec

from app import cli, supervisor
from tests.e2e.faults.trap import OPTION, Trap, TrapProbe


def main() -> None:
    given = [one for one in sys.argv if one.startswith(OPTION)]
    sys.argv = [one for one in sys.argv if one not in given]
    for one in given:
        trap = msgspec.json.decode(one.removeprefix(OPTION), type=Trap)
        built = partial(supervisor.build_worker, probe=TrapProbe(trap))  # type: ignore[attr-defined]
        supervisor.build_worker = built  # type: ignore[attr-defined]
    cli.main()


if __name__ == "__main__":
    main()
