"""Probes of `recount check` on Kafka: source topics, changelogs, replication."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.check_probes import DEADLINE_S, Finding, Mark
from app.config import Config
from app.transport.admin import (
    TopicInfo,
    admin_client,
    alter_topic_command,
    create_topic_command,
    topic_settings,
    topics_of,
)
from app.transport.topics import MAX_BYTES, too_small
from domain.errors import DependencyError
from domain.spec import changelog_topic
from tables.changelog import MAX_MESSAGE_BYTES

BROKERS = "are all brokers up?"
UNLIMITED_MS = 2**63 - 1
Settings = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What Kafka said: enough to judge without asking again."""

    brokers: int
    topics: Mapping[str, TopicInfo]
    settings: Mapping[str, Settings]


async def probe_kafka(config: Config) -> list[Finding]:
    """Ask Kafka once, then judge."""
    servers = config.kafka.bootstrap_servers
    try:
        async with admin_client(servers, DEADLINE_S, "kafka.bootstrap_servers") as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
            topics = await topics_of(admin)
            named = [topic.name for topic in config.topics]
            named += [changelog_topic(config.app.id, name) for name in named]
            settings = await topic_settings(admin, [name for name in named if name in topics])
    except DependencyError as err:
        return [Finding(Mark.UNREACHABLE, f"{err.server}: {err.reason}", err.fix)]
    return list(judge(config, Cluster(brokers, topics, settings)))


def judge(config: Config, cluster: Cluster) -> Iterator[Finding]:
    """Findings about the cluster, the source topics and their changelogs, in that order."""
    kafka = config.kafka
    yield Finding(Mark.OK, f"Kafka at {kafka.bootstrap_servers}: {_many(cluster.brokers, 'broker')}")
    changelogs = {topic.name: changelog_topic(config.app.id, topic.name) for topic in config.topics}
    if cluster.brokers < kafka.replication and not cluster.topics.keys() >= set(changelogs.values()):
        yield Finding(
            Mark.WRONG,
            f"kafka.replication: {kafka.replication} copies don't fit on {_many(cluster.brokers, 'broker')}",
            "start the brokers that are missing;"
            f" or set kafka.replication = {cluster.brokers} and"
            f" kafka.min_insync_replicas = {max(1, cluster.brokers - 1)}",
        )
    for name, changelog in changelogs.items():
        if name not in cluster.topics:
            command = create_topic_command(kafka.bootstrap_servers, name)
            yield Finding(Mark.WRONG, f"topic {name}: doesn't exist", f"make it: {command}")
            continue
        yield from _source(config, cluster.topics[name], cluster.settings[name])
        if changelog in cluster.topics:
            yield from _changelog(config, cluster, name, changelog)
        else:
            yield Finding(Mark.OK, f"changelog {changelog}: will be made")


def _source(config: Config, topic: TopicInfo, settings: Settings) -> Iterator[Finding]:
    yield Finding(Mark.OK, f"topic {topic.name}: {_many(topic.partitions, 'partition')}")
    if topic.in_sync < topic.replication:
        yield _behind(f"topic {topic.name}", topic)
    servers = config.kafka.bootstrap_servers
    limit = int(settings.get("message.timestamp.after.max.ms") or UNLIMITED_MS)
    if settings.get("message.timestamp.type") == "CreateTime" and limit >= UNLIMITED_MS:
        yield Finding(
            Mark.WARN,
            f"topic {topic.name}: producers may date records far into the future (CreateTime)",
            f"limit it: {alter_topic_command(servers, topic.name, 'message.timestamp.after.max.ms=3600000')}",
        )
    compacted = "compact" in (settings.get("cleanup.policy") or "")
    if compacted and int(settings.get("min.compaction.lag.ms") or 0) <= 0:
        yield Finding(
            Mark.WARN,
            f"topic {topic.name}: compaction may remove records before they are counted",
            f"delay it: {alter_topic_command(servers, topic.name, 'min.compaction.lag.ms=604800000')}",
        )


def _changelog(config: Config, cluster: Cluster, source: str, name: str) -> Iterator[Finding]:
    topic, settings = cluster.topics[name], cluster.settings[name]
    found = [*_changelog_settings(config, name, settings), *_copies(config, topic, settings)]
    if topic.partitions > cluster.topics[source].partitions:
        fix = f"was {source} made again with fewer? Then start over: recount reset --topic {source}"
        found.append(Finding(Mark.WRONG, f"changelog {name}: more partitions than {source}", fix))
    yield from found
    if not found:
        grows = "" if topic.partitions == cluster.topics[source].partitions else ", grows before they are counted"
        yield Finding(Mark.OK, f"changelog {name}: {_many(topic.partitions, 'partition')}{grows}")


def _changelog_settings(config: Config, name: str, settings: Settings) -> Iterator[Finding]:
    kafka = config.kafka

    def wrong(setting: str, wanted: object, why: str = "") -> Finding:
        fix = alter_topic_command(kafka.bootstrap_servers, name, f"{setting}={wanted}")
        return Finding(Mark.WRONG, f"changelog {name}: {setting} is {settings.get(setting)}{why}", fix)

    for setting, wanted in (("cleanup.policy", "compact"), ("message.timestamp.type", "LogAppendTime")):
        if settings.get(setting) != wanted:
            yield wrong(setting, wanted, f", not {wanted}")
    if too_small(settings):
        yield wrong(MAX_BYTES, MAX_MESSAGE_BYTES, ", too little for a checkpoint's batches")
    if _min_in_sync(settings) < kafka.min_insync_replicas:
        yield wrong("min.insync.replicas", kafka.min_insync_replicas)


def _copies(config: Config, topic: TopicInfo, settings: Settings) -> Iterator[Finding]:
    least, wanted = _min_in_sync(settings), config.kafka.replication
    if topic.in_sync < least:
        what = f"changelog {topic.name}: {topic.in_sync} of {topic.replication} copies in sync, {least} must be"
        yield Finding(Mark.WRONG, what, BROKERS)
    elif topic.in_sync < topic.replication:
        yield _behind(f"changelog {topic.name}", topic)
    if topic.replication < wanted:
        fix = "add copies with kafka-reassign-partitions.sh, or lower kafka.replication"
        yield Finding(Mark.WRONG, f"changelog {topic.name}: {topic.replication} copies, not {wanted}", fix)


def _min_in_sync(settings: Settings) -> int:
    return int(settings.get("min.insync.replicas") or 1)


def _behind(what: str, topic: TopicInfo) -> Finding:
    return Finding(Mark.WARN, f"{what}: a partition has {topic.in_sync} of {topic.replication} copies in sync", BROKERS)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
