"""The demo's configuration, and what it refuses to kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli_options import Victim
from app.config import load_config
from app.demo.kill import Killed, refuse_absent
from app.demo.settings import APP, TABLE, TOPIC, Setting
from domain.errors import ConfigError


def setting(folder: Path, thrift: str | None) -> Setting:
    return Setting("127.0.0.1:9092", folder.as_uri(), {}, {}, folder, folder, thrift)


def test_with_hbase_the_workers_put_their_counts_there_every_second(tmp_path: Path) -> None:
    config = load_config(setting(tmp_path, "127.0.0.1:9090").write_config("worker-1"), environ={})
    assert config.sinks.hbase is not None
    assert config.sinks.hbase.thrift == ("127.0.0.1:9090",)
    assert config.sinks.hbase.interval.ms == 1000


def test_without_hbase_there_is_no_such_section(tmp_path: Path) -> None:
    assert load_config(setting(tmp_path, None).write_config("worker-1"), environ={}).sinks.hbase is None


def test_the_claimant_is_whom_the_workers_are_whatever_their_instance(tmp_path: Path) -> None:
    one = setting(tmp_path, "127.0.0.1:9090").claimant()
    assert (one.table, one.app, one.topic) == (TABLE, APP, TOPIC)
    assert one.fingerprint == setting(tmp_path, None).claimant().fingerprint


@pytest.mark.parametrize("victim", [Victim.THRIFT, Victim.DATANODE])
def test_an_embedded_demo_has_no_server_to_kill(victim: Victim) -> None:
    with pytest.raises(ConfigError, match=f"--kill: there is no {victim} with --embedded"):
        refuse_absent(victim, embedded=True)
    refuse_absent(victim, embedded=False)


def test_a_worker_can_be_killed_anywhere() -> None:
    refuse_absent(Victim.WORKER, embedded=True)
    refuse_absent(Victim.WORKER, embedded=False)


def test_an_outage_in_json_says_who_how_long_and_what_was_counted() -> None:
    killed = Killed(Victim.DATANODE, "hdfs-datanode", 7, 4.26, 12, ("hbase-master",))
    assert json.loads(json.dumps(killed.to_dict())) == {
        "name": "hdfs-datanode",
        "down_s": 4.3,
        "counted_meanwhile": 12,
        "restarted": ["hbase-master"],
    }
