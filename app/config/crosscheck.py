"""Settings that must fit each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from math import gcd

from app.config.model import Backend, Config, TableSection, TopicSection
from app.config.units import UNIT_MS, Duration
from domain.errors import ConfigError
from domain.spec import changelog_topic
from sinks.hbase.format import events_table, hbase_tables

MINUTE_MS = UNIT_MS["m"]
TOPIC_NAME_MAX = 249


def cross_check(config: Config) -> Iterator[ConfigError]:
    """Everything that can only be seen by looking at several settings."""
    yield from _names(config)
    topics = {topic.name: topic for topic in config.topics}
    for index, table in enumerate(config.tables):
        yield from _table(f"tables[{index}]", table, topics)
    for index, topic in enumerate(config.topics):
        yield from _topic(f"topics[{index}]", topic, config)
    yield from _finals(config)
    yield from _kafka(config)
    yield from _state(config)
    yield from _sinks(config, topics)
    yield from _web(config)


def _names(config: Config) -> Iterator[ConfigError]:
    for section, names in (
        ("topics", [topic.name for topic in config.topics]),
        ("tables", [table.name for table in config.tables]),
    ):
        seen: dict[str, int] = {}
        for index, name in enumerate(names):
            first = seen.setdefault(name, index)
            if first != index:
                yield ConfigError(
                    f"{section}[{index}].name",
                    f'"{name}" is {section}[{first}] already',
                    "give each its own name",
                )


def _table(at: str, table: TableSection, topics: dict[str, TopicSection]) -> Iterator[ConfigError]:
    if table.retention < table.grace:
        yield ConfigError(
            f"{at}.retention", f"{table.retention} is shorter than grace", f"wants at least {table.grace}"
        )
    topic = topics.get(table.topic)
    if topic is None:
        yield ConfigError(f"{at}.topic", f'"{table.topic}" is in no [[topics]]', f"known: {', '.join(topics)}")
    elif topic.max_past < table.retention + table.window:
        # Older records must be malformed, not expired: the window of an expired one must still be known.
        longest = Duration(table.retention + table.window)
        at_topic = f"topics[{list(topics).index(topic.name)}].max_past"
        yield ConfigError(
            at_topic, f"{topic.max_past} is shorter than retention + window of {at}", f"wants at least {longest}"
        )
    if table.finals_topic in topics:
        yield ConfigError(f"{at}.finals_topic", f'"{table.finals_topic}" is a source topic', "choose another name")


def _finals(config: Config) -> Iterator[ConfigError]:
    """Finals go into the partition of their source: of two sources those would be mixed."""
    sources: dict[str, TableSection] = {}
    for index, table in enumerate(config.tables):
        if table.finals_topic is not None:
            other = sources.setdefault(table.finals_topic, table)
            if other.topic != table.topic:
                why = f'"{table.finals_topic}" takes the finals of {other.name}, which counts another topic'
                yield ConfigError(f"tables[{index}].finals_topic", why, "choose another name")


def _topic(at: str, topic: TopicSection, config: Config) -> Iterator[ConfigError]:
    changelog = changelog_topic(config.app.id, topic.name)
    if len(changelog) > TOPIC_NAME_MAX:
        yield ConfigError(
            f"{at}.name",
            f'its changelog "{changelog[:40]}…" is longer than {TOPIC_NAME_MAX}',
            "choose a shorter app.id",
        )
    if any(other.name == changelog for other in config.topics):
        yield ConfigError(f"{at}.name", f'another topic is its changelog "{changelog}"', "choose another app.id")
    for index, table in enumerate(config.tables):
        if table.finals_topic == changelog:
            yield ConfigError(f"tables[{index}].finals_topic", f'"{changelog}" is a changelog', "choose another name")
    windows = [table.window for table in config.tables if table.topic == topic.name]
    hbase_events = config.sinks.hbase is not None and topic.name in config.sinks.hbase.events
    if not windows and config.sinks.archive is None and not hbase_events:
        yield ConfigError(f"{at}.name", f'nothing reads "{topic.name}"', "add a table or [sinks.archive], or remove it")
    if config.sinks.archive is not None:
        yield from _archive_window(f"{at}.archive_window", topic, windows)


def _archive_window(at: str, topic: TopicSection, windows: Sequence[Duration]) -> Iterator[ConfigError]:
    if topic.name == "_sealed":
        yield ConfigError(
            at.replace("archive_window", "name"), '"_sealed" is a folder of the archive', "not archivable"
        )
    whole = gcd(*windows) if windows else int(topic.archive_window)
    if topic.archive_window % MINUTE_MS:
        yield ConfigError(at, f"{topic.archive_window} isn't whole minutes", 'such as "5m"')
    elif whole % topic.archive_window:
        if whole % MINUTE_MS:
            fix = "the archive needs table windows of whole minutes"
        else:
            fix = f'wants "{Duration(gcd(whole, topic.archive_window))}" or another divisor of "{Duration(whole)}"'
        yield ConfigError(at, f"{topic.archive_window} doesn't divide the windows of its tables", fix)


def _kafka(config: Config) -> Iterator[ConfigError]:
    kafka = config.kafka
    if kafka.min_insync_replicas > kafka.replication:
        yield ConfigError(
            "kafka.min_insync_replicas",
            f"{kafka.min_insync_replicas} is more than kafka.replication",
            f"wants at most {kafka.replication}",
        )


def _state(config: Config) -> Iterator[ConfigError]:
    state = config.state
    if state.backend is Backend.REDIS and state.url is None:
        yield ConfigError("state.url", "missing", 'backend "redis" needs url = "redis://host:6379/0"')
    if state.backend is Backend.ROCKSDB and state.url is not None:
        yield ConfigError("state.url", 'has no meaning with backend "rocksdb"', 'remove it, or set backend = "redis"')
    if state.password is not None and state.password_file is not None:
        yield ConfigError("state.password_file", "the password is set twice", "keep the file or the variable")


def _sinks(config: Config, topics: dict[str, TopicSection]) -> Iterator[ConfigError]:
    for index, name in enumerate(config.sinks.hbase.events if config.sinks.hbase else ()):
        if name not in topics:
            yield ConfigError(
                f"sinks.hbase.events[{index}]", f'"{name}" is in no [[topics]]', f"known: {', '.join(topics)}"
            )

    if config.sinks.hbase is not None:
        yield from _hbase_names(config, config.sinks.hbase.events)


def _hbase_names(config: Config, events: Sequence[str]) -> Iterator[ConfigError]:
    """Each table of ours in HBase must be one of its own."""
    taken: dict[str, str] = {}
    wanted = [(f"tables[{at}].name", hbase) for at, t in enumerate(config.tables) for hbase in hbase_tables(t.name)]
    wanted += [(f"sinks.hbase.events[{at}]", events_table(topic)) for at, topic in enumerate(events)]
    for setting, name in wanted:
        if taken.setdefault(name, setting) != setting:
            yield ConfigError(setting, f'its HBase table "{name}" is that of {taken[name]} too', "choose another name")


def _web(config: Config) -> Iterator[ConfigError]:
    web = config.web
    if (web.tls_cert is None) != (web.tls_key is None):
        lacking = "tls_key" if web.tls_key is None else "tls_cert"
        yield ConfigError(f"web.{lacking}", "missing", "TLS needs tls_cert and tls_key")
    if web.token is not None and web.token_file is not None:
        yield ConfigError("web.token_file", "the token is set twice", "keep the file or the variable")
    has_token = web.token is not None or web.token_file is not None
    if not is_loopback(web.address[0]) and not has_token and not web.allow_public:
        yield ConfigError(
            "web.bind",
            f'"{web.bind}" can be reached from other machines and there is no token',
            "set web.token_file, or web.allow_public = true if the network keeps strangers out",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
