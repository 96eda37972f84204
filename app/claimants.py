"""Whose HBase tables a configuration means."""

from __future__ import annotations

from app.config import Config, to_specs
from domain.spec import fingerprint
from sinks.hbase.claim import Claimant


def claimants(config: Config) -> list[Claimant]:
    """One per configured table, in their order."""
    topics, tables = to_specs(config)
    by_name = {topic.name: topic for topic in topics}
    return [Claimant(one.name, config.app.id, one.topic, fingerprint(by_name[one.topic], one)) for one in tables]
