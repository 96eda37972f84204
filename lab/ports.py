"""Free TCP ports on 127.0.0.1, reserved among labs for as long as the lab lives."""

import random
import socket
import threading
from pathlib import Path

from lab.errors import LabError

LOWEST = 12_000
LOCAL_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Ports:
    """Hands out ports that no other lab on this machine holds."""

    def __init__(self) -> None:
        self._reservations: list[socket.socket] = []
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return a port that was free a moment ago and that no other lab will take."""
        with self._lock:
            highest = _first_ephemeral_port()
            for _ in range(1000):
                port = random.randrange(LOWEST, highest)  # noqa: S311 - no secret
                if self._reserve(port):
                    return port
        raise LabError(f"no free port on 127.0.0.1 between {LOWEST} and {highest}")

    def close(self) -> None:
        with self._lock:
            for reservation in self._reservations:
                reservation.close()
            self._reservations.clear()

    def _reserve(self, port: int) -> bool:
        # A name in the abstract namespace keeps other labs away while the server itself holds the
        # port or is down between two starts; the kernel drops it with this process.
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            reservation.bind(f"\0recount-lab-port-{port}")
        except OSError:
            reservation.close()
            return False
        if not _is_free(port):
            reservation.close()
            return False
        self._reservations.append(reservation)
        return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _first_ephemeral_port() -> int:
    # Never a port the kernel gives to outgoing connections: it could be gone when a killed server
    # restarts, and a client that retries a dead ephemeral port may even connect to itself.
    try:
        first = int(LOCAL_PORT_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 32_768
    return first if first > LOWEST + 2_000 else 32_768
