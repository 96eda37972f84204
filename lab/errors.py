"""What can go wrong in the lab, each with a message that stands on its own."""

from pathlib import Path

TAIL_LINES = 20


class LabError(Exception):
    """The lab cannot do what it was asked for; the message says why and what to do."""


class MissingToolError(LabError):
    def __init__(self, tool: str, package: str, found: str = "is missing") -> None:
        super().__init__(f"{tool} {found}: apt-get install {package} (or run scripts/bootstrap)")


class JarMismatchError(LabError):
    """A downloaded jar differs from the committed list."""


class NotReadyError(LabError):
    """A probe's answer: the server does not serve yet. The reason is in the message."""


class ServerFailedError(LabError):
    """A server died or missed its deadline; the message ends with the last lines of its log."""

    def __init__(self, name: str, problem: str, log_path: Path) -> None:
        tail = "\n".join(f"  | {line}" for line in tail_of(log_path))
        super().__init__(f"{name} {problem}; the last lines of {log_path}:\n{tail}")


class PortTakenError(ServerFailedError):
    """Another process took the port between our choice and the server's bind."""


def tail_of(log_path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log, none if there is no log yet."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 400 * lines))
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
