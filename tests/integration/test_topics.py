"""Source topics must be there; changelogs are made as they must be, and refused when somebody set them otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from app.transport.admin import topic_settings, topics_of
from app.transport.topics import ChangelogWish, prepare_topics
from domain.errors import DependencyError, RefusedError
from domain.spec import changelog_topic
from tests import kafka
from tests.kafka import MakeTopic, unique

WISH = ChangelogWish(replication=1, min_insync_replicas=1)


async def settings_of(bootstrap: str, topic: str) -> Mapping[str, str | None]:
    async with kafka.admin(bootstrap) as admin:
        return (await topic_settings(admin, [topic]))[topic]


async def test_a_changelog_is_made_for_ever_and_partitioned_like_its_source(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, app = make_topic(3), unique("app")
    for _ in range(2):  # a second start finds it
        assert await prepare_topics(kafka_bootstrap, app, [topic], WISH) == {topic: 3}
    name = changelog_topic(app, topic)
    found = await settings_of(kafka_bootstrap, name)
    assert found["cleanup.policy"] == "compact"
    assert found["message.timestamp.type"] == "LogAppendTime"
    assert found["min.insync.replicas"] == "1"
    assert found["max.message.bytes"] == "1048576"
    async with kafka.admin(kafka_bootstrap) as admin:
        assert (await topics_of(admin))[name].partitions == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cleanup_policy": "delete"}, "cleanup.policy is delete, must be compact"),
        ({"cleanup_policy": "compact,delete"}, "cleanup.policy is compact,delete, must be compact"),
        ({"message_timestamp_type": "CreateTime"}, "message.timestamp.type is CreateTime, must be LogAppendTime"),
        ({"max_message_bytes": "500000"}, "max.message.bytes is 500000, must be 524288 or more"),
    ],
)
async def test_a_changelog_that_could_forget_is_refused(
    kafka_bootstrap: str, make_topic: MakeTopic, wrong: dict[str, str], said: str
) -> None:
    topic, app = make_topic(), unique("app")
    right = {"cleanup_policy": "compact", "message_timestamp_type": "LogAppendTime"}
    make_topic(1, changelog_topic(app, topic), **(right | wrong))
    with pytest.raises(RefusedError) as refused:
        await prepare_topics(kafka_bootstrap, app, [topic], WISH)
    assert refused.value.what == f"changelog topic {changelog_topic(app, topic)}"
    assert refused.value.why == said
    assert "kafka-configs.sh" in refused.value.fix


async def test_a_changelog_with_more_partitions_than_its_source_is_refused(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    topic, app = make_topic(2), unique("app")
    make_topic(3, changelog_topic(app, topic), cleanup_policy="compact", message_timestamp_type="LogAppendTime")
    with pytest.raises(RefusedError, match="it has 3 partitions, its source 2"):
        await prepare_topics(kafka_bootstrap, app, [topic], WISH)


async def test_a_changelog_grows_with_its_source(kafka_bootstrap: str, make_topic: MakeTopic) -> None:
    topic, app = make_topic(3), unique("app")
    make_topic(2, changelog_topic(app, topic), cleanup_policy="compact", message_timestamp_type="LogAppendTime")
    assert await prepare_topics(kafka_bootstrap, app, [topic], WISH) == {topic: 3}
    async with kafka.admin(kafka_bootstrap) as admin:
        assert (await topics_of(admin))[changelog_topic(app, topic)].partitions == 3


async def test_a_missing_source_names_the_command_and_makes_nothing(
    kafka_bootstrap: str, make_topic: MakeTopic
) -> None:
    there, missing, app = make_topic(), unique("missing"), unique("app")
    with pytest.raises(DependencyError) as refused:
        await prepare_topics(kafka_bootstrap, app, [there, missing], WISH)
    assert refused.value.server == f"topic {missing}"
    assert f"kafka-topics.sh --bootstrap-server {kafka_bootstrap} --create --topic {missing}" in refused.value.fix
    async with kafka.admin(kafka_bootstrap) as admin:
        assert not {missing, changelog_topic(app, there)} & set(await topics_of(admin))


async def test_more_copies_than_brokers_is_said_so(kafka_bootstrap: str, make_topic: MakeTopic) -> None:
    topic, app = make_topic(), unique("app")
    with pytest.raises(DependencyError, match=r"kafka\.replication"):
        await prepare_topics(kafka_bootstrap, app, [topic], ChangelogWish(3, 2))


async def test_no_kafka_is_said_within_the_deadline() -> None:
    with pytest.raises(DependencyError, match=r"Kafka at 127\.0\.0\.1:1: can't be reached"):
        await prepare_topics("127.0.0.1:1", "a", ["t"], WISH)
