"""The demo from start to verdict, and its ends: whatever ends it, all it started ends too."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import FrameType

from app.cli_errors import ExitCode, exit_code, print_error
from app.cli_options import Victim
from app.demo.errors import DemoError
from app.demo.kill import refuse_absent
from app.demo.outage import Servers
from app.demo.play import Play
from app.demo.reading import key_address
from app.demo.recount import require_oracle
from app.demo.result import Result, failure_json
from app.demo.screen import Screen
from app.demo.settings import TABLE, Setting
from app.transport.admin import quiet_client_log
from domain.errors import RecountError
from lab import Lab, LabError
from lab.service import Service

WATCH_S = 1.0


class Demo:
    """One run. `result` is there once there is a verdict."""

    def __init__(
        self, *, exit_after: bool, as_json: bool, embedded: bool, events: int, keep: bool, victim: Victim
    ) -> None:
        self._exit_after = exit_after
        self._as_json = as_json
        self._embedded = embedded
        self._events = events
        self._keep = keep
        self._victim = victim
        self._play: Play | None = None
        self.screen = Screen(as_json=as_json)
        self.result: Result | None = None

    def run(self) -> None:
        """Raises `DemoError`, `LabError`, `RecountError`, or `KeyboardInterrupt` when told to end."""
        with Lab(keep=self._keep) as lab:
            setting = self._start_lab(lab)
            try:
                asyncio.run(self._main(setting, None if self._embedded else servers(lab)))
            finally:
                if self.result is not None and not self.result.agree:
                    lab.keep_logs()  # those of a failure stay anyway
                if self._play is not None:
                    self._stop(self._play)

    def failed(self, error: str, code: ExitCode) -> int:
        """What a run without a verdict ends with."""
        if self._as_json and self.result is None:
            sent = None if self._play is None else self._play.sent.records
            pid = None if self._play is None else self._play.pid
            print(failure_json(sent, pid, self._victim, error), flush=True)  # noqa: T201 - the answer
        return code

    def _start_lab(self, lab: Lab) -> Setting:
        names = ("kafka",) if self._embedded else ("kafka", "hdfs", "hbase")
        self.screen.step(f"working in {lab.directory}, with the logs in {lab.directory / 'logs'}")
        with self.screen.busy("starting Kafka" if self._embedded else "starting Kafka, HDFS and HBase"):
            for service in start_all(lab, names):
                self.screen.step(f"{service.name} serves at {service.address}")
        data = lab.directory / "data" / "recount"
        data.mkdir()
        setting = Setting(
            bootstrap_servers=lab.kafka().bootstrap_servers,
            archive_url=(data / "archive").as_uri() if self._embedded else f"{lab.hdfs().url}/recount",
            archive_options={} if self._embedded else lab.hdfs().client_config,
            environment={} if self._embedded else {"HADOOP_CONF_DIR": str(lab.hdfs().conf_directory)},
            data=data,
            logs=lab.directory / "logs",
            thrift=None if self._embedded else lab.hbase().address,
        )
        self.screen.step(f"the archive goes to {setting.archive_url}")
        return setting

    async def _main(self, setting: Setting, servers: Servers | None) -> None:
        play = self._play = Play(setting, self.screen, self._events, self._victim, servers)
        with self.screen.meters():
            self.result = await play.to_the_end()
        self.screen.result(self.result)
        if self._as_json:
            print(self.result.to_json(), flush=True)  # noqa: T201 - the answer
        if self._exit_after:
            return
        self._show_addresses(setting, play)
        while True:
            play.fleet.check()
            await asyncio.sleep(WATCH_S)

    def _show_addresses(self, setting: Setting, play: Play) -> None:
        urls = play.fleet.urls()
        first = next(iter(urls.values()))
        base = f"{first}/api/v1"
        rows = [(name, url) for name, url in urls.items()]
        rows += [("Kafka", setting.bootstrap_servers), ("archive", setting.archive_url)]
        rows += [("HBase Thrift", setting.thrift)] if setting.thrift is not None else []
        rows += [("config", str(setting.config_path(name))) for name in list(urls)[:1]]
        asks = [
            f"{base}/partitions",
            f"{base}/tables/{TABLE}/windows",
            key_address(first, play.favourite_page),
            f"{first}/metrics",
        ]
        self.screen.addresses(rows, asks)

    def _stop(self, play: Play) -> None:
        self.screen.step("stopping the workers")
        play.recount.stop()
        for name in play.fleet.stop():
            self.screen.step(f"{name} did not end in time and was killed", "yellow")


def start_all(lab: Lab, names: Sequence[str]) -> Iterator[Service]:
    """Start services beside each other; each comes when it serves."""
    starters: dict[str, Callable[[], Service]] = {"kafka": lab.kafka, "hdfs": lab.hdfs, "hbase": lab.hbase}
    with ThreadPoolExecutor(len(names), "lab-start") as pool:
        for started in as_completed([pool.submit(starters[name]) for name in names]):
            yield started.result()


def servers(lab: Lab) -> Servers:
    """Those that may be killed, and HBase."""
    hbase = lab.hbase()
    return Servers({Victim.THRIFT: hbase.thrift, Victim.DATANODE: lab.hdfs().datanode}, hbase)


def run_demo(
    *, exit_after: bool, as_json: bool, embedded: bool, events: int, keep: bool, victim: Victim = Victim.WORKER
) -> int:
    """Run the demo; returns the exit code: 0 if every number agrees, 1 if not.

    Raises `RefusedError` where the oracle isn't there to compare with, `ConfigError` for a victim that isn't there.
    """
    refuse_absent(victim, embedded=embedded)
    require_oracle()
    quiet_client_log()
    demo = Demo(exit_after=exit_after, as_json=as_json, embedded=embedded, events=events, keep=keep, victim=victim)
    with _sigterm_as_interrupt():
        try:
            demo.run()
        except DemoError as err:
            demo.screen.fail(err.what, err.detail)
            return demo.failed(err.what, ExitCode.FINDING)
        except LabError as err:
            demo.screen.fail(str(err), "")
            return demo.failed(str(err), ExitCode.UNREACHABLE)
        except RecountError as err:
            print_error(err)
            return demo.failed(str(err), exit_code(err))
        except KeyboardInterrupt:
            if demo.result is None:
                return demo.failed("interrupted", ExitCode.INTERRUPTED)
    assert demo.result is not None
    return ExitCode.OK if demo.result.agree else ExitCode.FINDING


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
