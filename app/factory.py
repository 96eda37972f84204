"""The wiring of one worker: from config to running parts. Nothing else constructs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from agents.assignment import Assignment, AssignmentSettings
from agents.count import count_agent
from agents.counts import CountsSettings
from agents.follower import FollowerSettings
from agents.following import FollowSettings
from agents.opening import Sinks
from agents.room import Room
from agents.source import Place
from agents.view import WorkerView
from app.archives import ProcessArchives, tell_failure
from app.claimants import claimants
from app.config import Config, to_specs, web_token
from app.history import HBaseHistory
from app.instance import InstanceLock
from app.metrics import Metrics
from app.reporting import Reporting
from app.transport.membership import FaustMembership
from app.transport.service import RecountApp, ServiceSettings
from app.transport.source import KafkaSource
from app.transport.topics import ChangelogWish, Topics, prepare_topics
from app.web.api import build_app
from app.web.server import WebServer
from domain.errors import DependencyError, SinkUnavailableError
from domain.probe import Probe, no_probe
from domain.rows import Role
from sinks.archive.archive import Archive, ArchiveSettings
from sinks.hbase.connection import Pool
from sinks.hbase.sinks import HBaseSinks
from tables.changelog import ChangelogSettings
from tables.rocksdb import RocksSettings

CELL_BYTES = 100  # a cell's row with its share of a block
MIN_CACHE_BYTES = 32 << 20
ARCHIVE_DEADLINE_S = 30.0
EVENTS_SYNC_BYTES = 16 << 20
EVENTS_BACKLOG_BYTES = 64 << 20


@dataclass(slots=True)
class Worker:
    """The parts of one worker, wired but not started."""

    app: RecountApp
    assignment: Assignment
    source: KafkaSource
    archive: Archive | None
    hbase: HBaseSinks | None
    view: WorkerView
    web: WebServer
    partitions: int
    lock: InstanceLock


async def build_worker(
    config: Config,
    accept_gaps: Mapping[Place, tuple[int, int]],
    crash: Callable[[BaseException], None],
    probe: Probe = no_probe,
) -> Worker:
    """Check what must be there, and wire everything. Starts nothing but the web server.

    Raises `DependencyError`, `RefusedError` or `ConfigError`.
    """
    topics, tables = to_specs(config)
    lock = InstanceLock(_data_dir(config), config.app.instance)
    names = [topic.name for topic in topics]
    wish = ChangelogWish(config.kafka.replication, config.kafka.min_insync_replicas)
    bootstrap = config.kafka.bootstrap_servers
    finals = {table.finals_topic: table.topic for table in tables if table.finals_topic}
    ours = Topics(partial(prepare_topics, bootstrap, config.app.id, names, wish, finals))
    await ours.prepare()
    archive = await _open_archive(config, probe)
    hbase = _hbase(config, probe)
    metrics = Metrics()
    reporting = Reporting(metrics, tables, config.web.idle_timeout.ms / 1000)
    source = KafkaSource(bootstrap, config.app.id, ours)
    assignment = Assignment(
        topics,
        tables,
        source,
        Sinks(None if archive is None else ProcessArchives(archive), hbase),
        _assignment_settings(config, accept_gaps),
        reporting,
        crash,
        probe,
    )
    view = WorkerView(assignment, source.end_offset)
    reporting.show_in(view)
    membership = FaustMembership(ours.counts)
    web_app = build_app(
        view,
        assignment.tables,
        assignment.topics,
        membership,
        metrics,
        lambda: _unready(membership, assignment),
        web_token(config),
        idle=reporting.idle,
        history=None if hbase is None else _history(config),
    )
    host, port = config.web.address
    web = WebServer(web_app, host, port, tls_cert=config.web.tls_cert, tls_key=config.web.tls_key)
    await web.start()  # its port is part of the URL that the app advertises
    membership.self_url = config.web.advertise or web.url
    session_s = config.kafka.session_timeout.ms / 1000
    service = ServiceSettings(
        config.app.id, bootstrap, _data_dir(config), membership.self_url, session_s, config.app.instance
    )
    app = RecountApp(service, names, assignment.positions, assignment.assign, assignment.revoke, crash)
    membership.app = app
    app.count_with(count_agent(assignment, crash))
    source.attach(app)
    return Worker(app, assignment, source, archive, hbase, view, web, sum(ours.counts.values()), lock)


def _unready(membership: FaustMembership, assignment: Assignment) -> str | None:
    """Why this worker isn't ready yet, None when it is."""
    app = membership.app
    if app is None or app.rebalancing or not app.tables.recovery.completed.is_set():
        return "waiting for an assignment"
    if waiting := assignment.waiting():
        return f"restoring {', '.join(map(str, waiting))}"
    return None


def _data_dir(config: Config) -> Path:
    return config.app.data_dir / config.app.instance


def _assignment_settings(config: Config, accept_gaps: Mapping[Place, tuple[int, int]]) -> AssignmentSettings:
    session_s = config.kafka.session_timeout.ms / 1000
    return AssignmentSettings(
        app=config.app.id,
        data_dir=_data_dir(config) / "state",
        changelog=ChangelogSettings(config.kafka.bootstrap_servers),
        rocks=RocksSettings(max(MIN_CACHE_BYTES, config.state.cache_cells * CELL_BYTES)),
        uncommitted=Room(config.state.cache_cells // 2),
        follow=_follow_settings(config),
        checkpoint_interval_s=config.checkpoint.interval.ms / 1000,
        max_records=config.checkpoint.max_records,
        revoke_budget_s=config.checkpoint.revoke_budget.ms / 1000,
        fenced_patience_s=3 * session_s,
        accept_gaps=accept_gaps,
    )


def _follow_settings(config: Config) -> FollowSettings:
    archive, hbase = config.sinks.archive, config.sinks.hbase
    logs = {}
    if archive is not None:
        logs[Role.ARCHIVE] = FollowerSettings(archive.sync_interval.ms / 1000, backlog=Room(archive.backlog_bytes))
    if hbase is None:
        return FollowSettings(logs)
    interval_s = hbase.interval.ms / 1000
    logs[Role.EVENTS] = FollowerSettings(interval_s, EVENTS_SYNC_BYTES, Room(EVENTS_BACKLOG_BYTES))
    return FollowSettings(logs, CountsSettings(interval_s, hbase.backlog_cells))


def _hbase(config: Config, probe: Probe) -> HBaseSinks | None:
    """Connects later: counting goes on without HBase, which catches up."""
    section = config.sinks.hbase
    if section is None:
        return None
    return HBaseSinks(Pool(*section.thrift), claimants(config), section.events, probe)


def _history(config: Config) -> HBaseHistory:
    """Reads with connections of its own: a question from the web waits for no put."""
    assert config.sinks.hbase is not None
    return HBaseHistory(config.sinks.hbase.thrift, claimants(config))


async def _open_archive(config: Config, probe: Probe) -> Archive | None:
    """Raises `DependencyError` when the archive's file system doesn't answer at the start."""
    section = config.sinks.archive
    if section is None:
        return None
    settings = ArchiveSettings(
        section.url,
        sync_interval_ms=section.sync_interval.ms,
        roll_bytes=section.roll_bytes,
        idle_commit_ms=section.idle_commit.ms,
        max_open_files=section.max_open_files,
    )
    fix = "start it, or correct sinks.archive.url"
    try:
        async with asyncio.timeout(ARCHIVE_DEADLINE_S):
            archive = await asyncio.to_thread(
                partial(Archive, settings, lambda: int(time.time() * 1000), tell_failure, probe=probe)
            )
            await asyncio.to_thread(archive.fs.mkdirs, archive.root)
    except TimeoutError as err:
        raise DependencyError(f"archive {section.url}", f"no answer within {ARCHIVE_DEADLINE_S:g} s", fix) from err
    except SinkUnavailableError as err:
        raise DependencyError(f"archive {section.url}", err.reason, fix) from err
    return archive
