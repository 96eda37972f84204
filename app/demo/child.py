"""Start another program that dies with the caller, whatever kills it: `child.py PARENT NICENESS PROGRAM ARG...`.

Run as a script, with the standard library alone. The wish to die with the parent survives `exec`.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, niceness, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the wish was made
        sys.exit(1)
    os.nice(int(niceness))
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
