"""What the servers that run on a JVM have in common: their jars, command lines and quick starts."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

from lab import jars, tools
from lab.errors import LabError, tail_of
from lab.service import Room, Service

TOOL_SECONDS = 120
# Few cores: no parallel collector, and no second compiler for daemons that live for a minute.
SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

LOG4J_2 = """\
appenders = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
"""


class JvmService(Service):
    """A service from jars."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._archives: Path | None = None
        self._recording = False

    @cached_property
    def home(self) -> Path:
        """The folder of the jars, and of what is made once from them."""
        return jars.ensure(self.name)

    def start(self) -> None:
        if self._archives is None:
            self._archives = self.template(f"classes-{tools.java_fingerprint()}", self._record)
        super().start()

    def java(self, *options: str, conf: Path | None = None) -> list[str]:
        """Return the start of a JVM's command line, up to the main class."""
        # No perf data and an own temp folder: a killed JVM leaves files in /tmp otherwise.
        own = ("-XX:-UsePerfData", f"-Djava.io.tmpdir={self.room.temporary}", "-Djava.net.preferIPv4Stack=true")
        # One order always, and the only folder last: an archive of classes fits no other path.
        classpath = [*sorted((self.home / "lib").glob("*.jar")), *([conf] if conf else [])]
        return [tools.java(), *own, *options, "-cp", os.pathsep.join(str(entry) for entry in classpath)]

    def archive_options(self, kind: str) -> list[str]:
        """Return the JVM options by which servers of a kind share their loaded classes on disk.

        It halves what a start costs. A JVM that finds the archive unfit ignores it.
        """
        if self._archives is None:
            return []
        archive = self._archives / f"{kind}.jsa"
        if self._recording:
            return [f"-XX:ArchiveClassesAtExit={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
        return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []

    def template(self, key: str, make: Callable[[Path], None]) -> Path:
        """Return a folder that `make` filled once for all labs, such as a freshly formatted disk.

        `key` must change with everything that goes into it besides the jars.
        """
        made = self.home / f"template-{key}"
        with jars.locked(made.with_suffix(".lock")):
            if not made.exists():
                being_made = made.with_suffix(".new")
                shutil.rmtree(being_made, ignore_errors=True)
                being_made.mkdir()
                make(being_made)
                being_made.rename(made)
        return made

    def run_tool(self, argv: Sequence[str], folder: Path) -> None:
        """Run a program of this service to its end, such as one that formats a disk. Raises `LabError` if it fails."""
        log_path = self.room.logs / f"{self.name}-tool.log"
        with log_path.open("ab") as log:
            done = subprocess.run(
                argv, cwd=folder, stdout=log, stderr=subprocess.STDOUT, timeout=TOOL_SECONDS, check=False
            )
        if done.returncode != 0:
            tail = "\n".join(f"  | {line}" for line in tail_of(log_path))
            raise LabError(f"{self.name}: a tool failed; the last lines of {log_path}:\n{tail}")

    def _trainee(self) -> Self:
        """Return a service like this one with the usual settings, to learn from what it loads."""
        return type(self)(self.room)

    def _record(self, archives: Path) -> None:
        jars.progress(f"preparing {self.name} for quick starts, once …")
        trainee = self._trainee()
        trainee._archives, trainee._recording = archives, True  # noqa: SLF001 - one of our own
        trainee.start()
        trainee.stop()
        for server in trainee.servers:
            server.log_path.unlink()
