"""What the demo counts, and the configuration of its workers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from app.claimants import claimants
from app.config import parse_config
from app.demo import events
from sinks.hbase.claim import Claimant

APP, TOPIC, TABLE = "demo", "clicks", "page_views"
PARTITIONS = 4
SESSION_S = 6

CONFIG = """\
[app]
id = "{app}"
instance = {instance}
data_dir = {data}
[kafka]
bootstrap_servers = {bootstrap}
session_timeout = "{session_s}s"
replication = 1
min_insync_replicas = 1
[[topics]]
name = "{topic}"
event_time = {{ field = "ts", format = "epoch_ms" }}
archive_window = "{window_m}m"
max_past = "{max_past_m}m"
[[tables]]
name = "{table}"
topic = "{topic}"
key = ["page"]
window = "{window_m}m"
grace = "{grace_m}m"
retention = "{retention_m}m"
[sinks.archive]
url = {archive}
sync_interval = "1s"
idle_commit = "3s"                 # HDFS shows a file's lines when it is committed, and we want to look at once
[web]
bind = "127.0.0.1:0"
"""
HBASE = """\
[sinks.hbase]
thrift = [{thrift}]
interval = "1s"
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where things are in one run of the demo."""

    bootstrap_servers: str
    archive_url: str
    archive_options: dict[str, str]
    environment: dict[str, str]  # of the workers
    data: Path
    logs: Path
    thrift: str | None = None  # HBase's Thrift server; None: counts don't go to HBase

    def config_path(self, instance: str) -> Path:
        return self.data / f"{instance}.toml"

    def write_config(self, instance: str) -> Path:
        path = self.config_path(instance)
        path.write_text(self._config_text(instance), encoding="utf-8")
        return path

    def claimant(self) -> Claimant:
        """Whose counts the workers write to HBase."""
        (one,) = claimants(parse_config(self._config_text("any"), environ={}))
        return one

    def _config_text(self, instance: str) -> str:
        return config_text(instance, self.bootstrap_servers, self.archive_url, self.data, self.thrift)


def config_text(instance: str, bootstrap_servers: str, archive_url: str, data: Path, thrift: str | None = None) -> str:
    text = CONFIG.format(
        app=APP,
        topic=TOPIC,
        table=TABLE,
        # JSON strings are TOML strings too.
        instance=json.dumps(instance),
        data=json.dumps(str(data)),
        bootstrap=json.dumps(bootstrap_servers),
        archive=json.dumps(archive_url),
        session_s=SESSION_S,
        window_m=events.WINDOW_MS // events.MINUTE_MS,
        grace_m=events.GRACE_MS // events.MINUTE_MS,
        retention_m=events.RETENTION_MS // events.MINUTE_MS,
        max_past_m=events.MAX_PAST_MS // events.MINUTE_MS,
    )
    return text if thrift is None else text + HBASE.format(thrift=json.dumps(thrift))
