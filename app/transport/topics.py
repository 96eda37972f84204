"""Topics: the sources must exist; changelogs and finals topics are made, and checked, before anything is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import structlog
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.errors import InvalidPartitionsError, KafkaError, TopicAlreadyExistsError

from agents.source import Place
from app.transport.admin import TopicInfo, admin_client, create_topic_command, topic_settings, topics_of
from domain.errors import DependencyError, RefusedError, SinkUnavailableError
from domain.spec import changelog_topic
from tables.changelog import BATCH_BYTES, MAX_MESSAGE_BYTES

log = structlog.get_logger(__name__)

DEADLINE_S = 30.0
POLL_S = 0.1
NO_FINALS: Mapping[str, str] = {}
MAX_BYTES = "max.message.bytes"
REQUIRED = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True, slots=True)
class ChangelogWish:
    replication: int
    min_insync_replicas: int


class Topics:
    """How many partitions each source topic has, and its changelog and finals topics; they grow while we run."""

    def __init__(self, prepare: Callable[[], Awaitable[dict[str, int]]]) -> None:
        self.counts: dict[str, int] = {}
        self._prepare = prepare
        self._one_at_a_time = asyncio.Lock()

    async def prepare(self) -> None:
        """As `prepare_topics`, and raises the same."""
        self.counts.update(await self._prepare())

    async def cover(self, place: Place) -> None:
        """Returns when our topics have a partition for this one. Raises `SinkUnavailableError` too: ask again."""
        async with self._one_at_a_time:
            if place.partition < self.counts[place.topic]:
                return
            log.info("topic has grown", partition=str(place), known=self.counts[place.topic])
            await self.prepare()
            if place.partition >= self.counts[place.topic]:
                raise SinkUnavailableError("Kafka", f"the broker that was asked doesn't list {place} yet")


async def prepare_topics(
    bootstrap: str, app: str, sources: Collection[str], wish: ChangelogWish, finals: Mapping[str, str] = NO_FINALS
) -> dict[str, int]:
    """Make missing changelogs and finals topics; returns the partition count of each source topic.

    `finals` are the sources by finals topic.
    Raises `DependencyError` (Kafka, or a source topic that isn't there) or `RefusedError` (a changelog set wrong).
    """
    async with admin_client(bootstrap, DEADLINE_S, "kafka.bootstrap_servers") as admin:
        known = await topics_of(admin)
        for source in sources:
            if source not in known:
                fix = create_topic_command(bootstrap, source)
                raise DependencyError(f"topic {source}", "it does not exist", f"create it: {fix}")
        logs = {changelog_topic(app, source): source for source in sources}
        ours = {**logs, **finals}
        missing = [
            NewTopic(
                name,
                known[source].partitions,
                wish.replication,
                topic_configs=_settings(wish, REQUIRED if name in logs else {}),
            )
            for name, source in ours.items()
            if name not in known
        ]
        if missing:
            await _create(admin, missing)
            known = await _once_known(admin, ours)
        if short := {
            name: known[source].partitions
            for name, source in ours.items()
            if known[name].partitions < known[source].partitions
        }:
            known = await _grow(admin, short)
        # All of them: one that somebody else made a moment ago wasn't known above either.
        settings = await topic_settings(admin, logs)
        for name, found in settings.items():
            _check(logs[name], name, found, known[name].partitions, known[logs[name]].partitions)
        return {source: known[source].partitions for source in sources}


async def _create(admin: object, missing: list[NewTopic]) -> None:
    response = await admin.create_topics(missing)  # type: ignore[attr-defined]
    for name, code, *rest in response.topic_errors:
        if code and code != TopicAlreadyExistsError.errno:
            reason = next((str(one) for one in rest if one), f"error {code}")
            raise KafkaError(f"creating topic {name}: {reason} (kafka.replication suits the brokers there are?)")
        log.info("topic ready", topic=name)


async def _grow(admin: object, wanted: dict[str, int]) -> dict[str, TopicInfo]:
    """Give topics the partitions their sources have got, before the new ones are counted."""
    try:
        await admin.create_partitions({name: NewPartitions(count) for name, count in wanted.items()})  # type: ignore[attr-defined]
        log.info("topics grown", partitions=wanted)
    except InvalidPartitionsError as err:  # another worker was first
        log.info("topics not grown by us", partitions=wanted, reason=str(err))
    while True:
        known = await topics_of(admin)
        if all(known[name].partitions >= count for name, count in wanted.items()):
            return known
        await asyncio.sleep(POLL_S)


async def _once_known(admin: object, names: Collection[str]) -> dict[str, TopicInfo]:
    """Ask until the brokers list them: a topic just made isn't known everywhere at once."""
    while not (known := await topics_of(admin)).keys() >= set(names):  # noqa: ASYNC110 - brokers tell nobody
        await asyncio.sleep(POLL_S)
    return known


def _settings(wish: ChangelogWish, others: Mapping[str, str]) -> dict[str, str]:
    return {
        **others,
        "min.insync.replicas": str(wish.min_insync_replicas),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),  # whatever the brokers' own limit is
    }


def too_small(settings: Mapping[str, str | None]) -> bool:
    """Whether a topic doesn't take the batches that a checkpoint is sent in."""
    return int(settings.get(MAX_BYTES) or MAX_MESSAGE_BYTES) < BATCH_BYTES


def _check(source: str, name: str, found: dict[str, str | None], partitions: int, wanted_partitions: int) -> None:
    wrong = [
        f"{key} is {found.get(key)}, must be {value}" for key, value in REQUIRED.items() if found.get(key) != value
    ]
    wrong += [f"max.message.bytes is {found.get(MAX_BYTES)}, must be {BATCH_BYTES} or more"] if too_small(found) else []
    if partitions > wanted_partitions:  # topics only grow: this is another one than was counted
        raise RefusedError(
            f"changelog topic {name}",
            f"it has {partitions} partitions, its source {wanted_partitions}: the source was made again with fewer",
            f"To count the new topic, the old one's archive is kept apart: recount reset --topic {source}",
        )
    if wrong:
        raise RefusedError(
            f"changelog topic {name}",
            "; ".join(wrong),
            "Set it right with kafka-configs.sh or kafka-topics.sh; rows already lost to retention make counts wrong",
        )
