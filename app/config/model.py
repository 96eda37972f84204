"""The settings. Every one is described in docs/configuration.md."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from app.config.fields import (
    AT_LEAST_ONE,
    AbsolutePath,
    Address,
    Addresses,
    AnyScalar,
    AppId,
    ArchiveUrl,
    Bind,
    FieldName,
    Instance,
    LongEnough,
    Positive,
    RedisUrl,
    Replicas,
    Size,
    StartMs,
    TableName,
    TopicName,
    Truth,
    WebUrl,
    duration_between,
    setting,
)
from app.config.units import Duration, parse_address, unfit
from domain.spec import KeyType, TimeFormat

MIB = 1 << 20


def _span(text: str) -> Duration:
    return Duration.parse(text)


class Section(BaseModel):
    """A table of the file. Unknown keys are refused; values don't change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class AppSection(Section):
    id: AppId = setting('"clicks"')
    instance: Instance = setting('"worker-1"', "")
    """Never empty after loading: the host name is the default."""
    data_dir: AbsolutePath = setting(default=Path("/var/lib/recount"))


class KafkaSection(Section):
    bootstrap_servers: Addresses = setting(default="127.0.0.1:9092")
    session_timeout: Annotated[Duration, duration_between("1s", "30m")] = setting(default=_span("10s"))
    replication: Replicas = setting(default=3)
    min_insync_replicas: Replicas = setting(default=2)


class EventTimeSection(Section):
    format: TimeFormat = setting('"epoch_ms"')
    field: FieldName | None = setting('"ts"', None)

    @model_validator(mode="after")
    def _field_fits_format(self) -> Self:
        if self.format is TimeFormat.KAFKA and self.field is not None:
            raise unfit('format "kafka" takes no field', "remove field, or name the format of the event's own time")
        if self.format is not TimeFormat.KAFKA and self.field is None:
            raise unfit(f'format "{self.format}" needs a field', 'add field = "ts"')
        return self


class TopicSection(Section):
    name: TopicName = setting('"clicks"')
    event_time: EventTimeSection = setting('{ field = "ts", format = "epoch_ms" }')
    format: Literal["json"] = setting(default="json")
    archive_window: LongEnough = setting(default=_span("5m"))
    max_future: Duration = setting(default=_span("10m"))
    max_past: Duration = setting(default=_span("7d"))


class KeySection(Section):
    """One part of a key; a plain string in the file is its `field`."""

    field: FieldName | None = setting('"page"', None)
    source: Literal["kafka_key"] | None = setting('"kafka_key"', None)
    type: KeyType = setting(default=KeyType.STRING)

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"field": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.field is None) == (self.source is None):
            raise unfit("wants a field or a source", 'such as "page" or { source = "kafka_key" }')
        if self.source is not None and self.type is not KeyType.STRING:
            raise unfit("a Kafka key is always text", "remove type")
        return self


class WhereSection(Section):
    """A condition. What it asks for must all hold."""

    field: FieldName = setting('"country"')
    equals: AnyScalar = setting('"CN"', None)
    any_of: Annotated[tuple[AnyScalar, ...] | None, AT_LEAST_ONE] = Field(
        None, alias="in", examples=['["ios", "android"]']
    )
    exists: Truth | None = setting("true", None)

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.equals is None and self.any_of is None and self.exists is None:
            raise unfit(
                "asks nothing", f'add equals, in or exists, such as {{ field = "{self.field}", exists = true }}'
            )
        if self.exists is False and (self.equals is not None or self.any_of is not None):
            raise unfit("no record can pass: the field can't be absent and have a value", "remove exists = false")
        return self


class DedupSection(Section):
    field: FieldName = setting('"id"')


class TableSection(Section):
    name: TableName = setting('"page_views"')
    topic: TopicName = setting('"clicks"')
    key: Annotated[tuple[KeySection, ...], AT_LEAST_ONE] = setting('["page"]')
    where: tuple[WhereSection, ...] = setting('[{ field = "country", equals = "CN" }]', ())
    window: LongEnough = setting(default=_span("5m"))
    grace: Duration = setting(default=_span("10m"))
    retention: Duration = setting(default=_span("24h"))
    start: StartMs = setting('"earliest"', None)
    """Milliseconds; None is the earliest."""
    dedup: DedupSection | None = setting('{ field = "id" }', None)
    finals_topic: TopicName | None = setting('"page_views-final"', None)


class Backend(StrEnum):
    ROCKSDB = "rocksdb"
    REDIS = "redis"


class StateSection(Section):
    backend: Backend = setting(default=Backend.ROCKSDB)
    cache_cells: Positive = setting(default=1_000_000)
    url: RedisUrl | None = setting('"redis://127.0.0.1:6379/0"', None)
    password_file: AbsolutePath | None = setting('"/run/secrets/redis"', None)
    password: SecretStr | None = setting(default=None)


class CheckpointSection(Section):
    interval: Annotated[Duration, duration_between("10ms", "10m")] = setting(default=_span("1s"))
    max_records: Positive = setting(default=50_000)
    revoke_budget: Annotated[Duration, duration_between("100ms", "9s")] = setting(default=_span("5s"))


class HBaseSection(Section):
    thrift: Annotated[tuple[Address, ...], AT_LEAST_ONE] = setting('["127.0.0.1:9090"]')
    interval: LongEnough = setting(default=_span("5s"))
    backlog_cells: Positive = setting(default=1_000_000)
    events: tuple[TopicName, ...] = setting('["clicks"]', ())


class ArchiveSection(Section):
    url: ArchiveUrl = setting('"hdfs://127.0.0.1:9000/recount"', "")
    """Never empty after loading: `archive` in the data folder is the default."""
    sync_interval: LongEnough = setting(default=_span("5s"))
    backlog_bytes: Size = setting(default=256 * MIB)
    roll_bytes: Size = setting(default=256 * MIB)
    idle_commit: LongEnough = setting(default=_span("10m"))
    max_open_files: Positive = setting(default=256)


class SinksSection(Section):
    hbase: HBaseSection | None = setting(default=None)
    archive: ArchiveSection | None = setting(default=None)


class WebSection(Section):
    bind: Bind = setting(default="127.0.0.1:6066")
    advertise: WebUrl | None = setting('"http://worker-3:6066"', None)
    token_file: AbsolutePath | None = setting('"/run/secrets/web-token"', None)
    token: SecretStr | None = setting(default=None)
    tls_cert: AbsolutePath | None = setting('"/etc/recount/tls.crt"', None)
    tls_key: AbsolutePath | None = setting('"/etc/recount/tls.key"', None)
    allow_public: Truth = setting(default=False)
    idle_timeout: LongEnough = setting(default=_span("5m"))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at; port 0 is any free one."""
        return parse_address(self.bind, lowest_port=0)


class Config(Section):
    """All settings of one app; made by `load_config`."""

    app: AppSection = setting()
    kafka: KafkaSection = KafkaSection()
    topics: Annotated[tuple[TopicSection, ...], AT_LEAST_ONE] = setting()
    tables: tuple[TableSection, ...] = setting(default=())
    state: StateSection = StateSection()
    checkpoint: CheckpointSection = CheckpointSection()
    sinks: SinksSection = SinksSection()
    web: WebSection = WebSection()
