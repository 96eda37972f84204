"""A scene: one topic, one app, its workers, driver and verifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.driver import Driver, Records
from tests.e2e.monitor import Monitor
from tests.e2e.verifier import Verifier
from tests.e2e.workers import Worker
from tests.kafka import create_topic, run_apart, unique
from tests.waiting import wait_for

COUNT_ON_S = 120.0
HBASE = """
[sinks.hbase]
thrift = ["{thrift}"]
interval = "1s"
backlog_cells = {backlog}
events = ["{topic}"]
"""
TABLES = ("page_views", "visits", "senders")
CONFIG = """
[app]
id = "{app}"
data_dir = "{folder}/data"
[kafka]
bootstrap_servers = "{bootstrap}"
session_timeout = "4s"
replication = {replication}
min_insync_replicas = {in_sync}
[[topics]]
name = "{topic}"
event_time = {{ field = "ts", format = "epoch_ms" }}
archive_window = "1m"
max_future = "1m"
max_past = "10m"
[[tables]]
name = "page_views"
topic = "{topic}"
key = ["page"]
window = "1m"
grace = "1m"
retention = "3m"
finals_topic = "{topic}-finals"
[[tables]]
name = "visits"
topic = "{topic}"
key = ["page", {{ field = "user", type = "int" }}]
window = "2m"
grace = "30s"
retention = "4m"
where = [{{ field = "bot", exists = false }}, {{ field = "user", in = [1, 2, 3, 5, 8, 13] }}]
dedup = {{ field = "id" }}
[[tables]]
name = "senders"
topic = "{topic}"
key = [{{ source = "kafka_key" }}]
window = "5m"
grace = "1m"
retention = "5m"
[checkpoint]
interval = "500ms"
[sinks.archive]
url = "{archive}"
sync_interval = "1s"
"""


@dataclass
class Scene:
    app: str
    topic: str
    partitions: int
    bootstrap: str
    config: Path
    folder: Path
    tables: Sequence[str] = TABLES
    workers: list[Worker] = field(default_factory=list)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.config, self.bootstrap)

    def worker(self, name: str, module: str = "app") -> Worker:
        """Describe a worker; it isn't started."""
        worker = Worker(name, self.config, self.folder, module)
        self.workers.append(worker)
        return worker

    def start(self, *names: str) -> list[Worker]:
        """Start workers and wait until each is ready."""
        found = [self.worker(name) for name in names]
        for worker in found:
            worker.start()
        for worker in found:
            worker.wait_ready()
        return found

    def set(self, section: str, **settings: str) -> None:
        """Change settings for the workers started from now on; values as TOML texts."""
        heading = f"[{section}]\n"
        before, _, after = self.config.read_text().partition(heading)
        own, bracket, rest = after.partition("\n[")
        lines = [line for line in own.splitlines() if line.partition(" = ")[0] not in settings]
        lines += [f'{name} = "{value}"' for name, value in settings.items()]
        self.config.write_text(before + heading + "\n".join(lines) + "\n" + bracket.lstrip("\n") + rest)

    @contextmanager
    def load(self, *, seed: int = 0, rate: int = 4000, records: Records | None = None) -> Iterator[Driver]:
        """Known input and somebody who watches the API, until the block ends."""
        with (
            Driver(
                self.bootstrap, self.topic, partitions=self.partitions, seed=seed, rate=rate, records=records
            ) as driver,
            Monitor(driver, self.workers, self.tables),
        ):
            yield driver
            driver.stop()

    def wait_counts_on(self, worker: Worker, driver: Driver, deadline_s: float = COUNT_ON_S) -> None:
        """Until every partition is committed further than now, with input sent meanwhile. It must not end."""
        before = driver.acked.copy()
        start = wait_for(f"{worker.name} to tell of all partitions", worker.committed, deadline_s)
        wait_for("more input", lambda: all(driver.acked[one] > before.get(one, 0) for one in start), deadline_s)

        def further() -> bool:
            assert worker.running, f"{worker.name} ended:\n{worker.log()[-3000:]}"
            now = worker.committed()
            return now.keys() == start.keys() and all(now[one] > start[one] for one in start)

        wait_for("every partition to be counted on", further, deadline_s)

    def stop(self, workers: Sequence[Worker] | None = None) -> None:
        """End workers as they promise to end."""
        for worker in workers if workers is not None else self.workers:
            if worker.running:
                worker.terminate()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def set_up(bootstrap: str, topic: str, partitions: int, folder: Path, archive: str, replication: int = 1) -> Scene:
    config = folder / "recount.toml"
    app = unique("app")
    config.write_text(
        CONFIG.format(
            app=app,
            folder=folder,
            bootstrap=bootstrap,
            topic=topic,
            archive=archive,
            replication=replication,
            in_sync=1 + replication // 2,
        )
    )
    return Scene(app, topic, partitions, bootstrap, config, folder)


def on_its_own_topic(bootstrap: str, folder: Path, partitions: int, replication: int = 1) -> Scene:
    """A scene on some Kafka, with a topic made for it and a local archive."""
    topic = unique("clicks")
    run_apart(create_topic(bootstrap, topic, partitions, {"max.message.bytes": str(12 << 20)}, replication))
    return set_up(bootstrap, topic, partitions, folder, f"file://{folder}/archive", replication)


def without_tables(scene: Scene) -> None:
    """The topic is only archived."""
    before, _, after = scene.config.read_text().partition("[[tables]]")
    scene.config.write_text(before + after[after.index("[checkpoint]") :])
    scene.tables = ()


def add_hbase(scene: Scene, thrift: str, backlog: int = 1_000_000) -> None:
    """Counts and records go to HBase too, to tables that only this scene has."""
    text = scene.config.read_text()
    scene.tables = tuple(f"{name}_{scene.topic}" for name in TABLES)
    for old, new in zip(TABLES, scene.tables, strict=True):
        text = text.replace(f'name = "{old}"', f'name = "{new}"')
    scene.config.write_text(text + HBASE.format(thrift=thrift, backlog=backlog, topic=scene.topic))
