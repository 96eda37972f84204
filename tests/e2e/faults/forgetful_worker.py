"""A probed worker that hears late of the group after a pause: `python -m tests.e2e.faults.forgetful_worker`."""

from __future__ import annotations

from tests.e2e.faults import probed_worker
from tests.e2e.forgetful_app import forgetful

if __name__ == "__main__":
    forgetful()
    probed_worker.main()
