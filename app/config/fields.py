"""Types of single settings: each says in its error what it wants."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from app.config.units import Duration, EnvText, parse_address, parse_bytes, parse_start_ms, unfit
from domain.spec import Scalar

KAFKA_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
TRUTH = {"true": True, "1": True, "false": False, "0": False}


def setting(example: str = "", default: Any = ...) -> Any:
    """A field of a section. `example` is TOML for the error messages; the default serves if there is none."""
    return Field(default=default, examples=[example] if example else None)


def _whole(value: object) -> int:
    if isinstance(value, EnvText) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise unfit("wants a whole number", "without quotes, such as 3")


def _truth(value: object) -> bool:
    if isinstance(value, EnvText) and value.lower() in TRUTH:
        return TRUTH[value.lower()]
    if isinstance(value, bool):
        return value
    raise unfit("wants true or false", "without quotes")


def _between(lowest: int, highest: int | None = None) -> AfterValidator:
    def check(value: int) -> int:
        if value < lowest:
            raise unfit(f"wants at least {type(value)(lowest)}")
        if highest is not None and value > highest:
            raise unfit(f"wants at most {type(value)(highest)}")
        return value

    return AfterValidator(check)


def duration_between(lowest: str, highest: str | None = None) -> AfterValidator:
    return _between(Duration.parse(lowest), None if highest is None else Duration.parse(highest))


def _matching(pattern: re.Pattern[str], wants: str, fix: str = "") -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value) or value in (".", ".."):
            raise unfit(f"wants {wants}", fix)
        return value

    return AfterValidator(check)


def _filled(value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if value is not None and not value:
        raise unfit("wants at least one entry")
    return value


def _field_name(value: str) -> str:
    if not all(value.split(".")):
        raise unfit("wants a field name", 'nested fields with dots between, such as "user.id"')
    return value


def _table_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}", value):
        raise unfit(
            "wants letters, digits, _ and - only (at most 100)", "no dots: it names an HBase table and stands in URLs"
        )
    if value.endswith("_windows"):
        # HBase keeps the certificates of table `t` in `recount_t_windows`.
        raise unfit("names ending in _windows are taken for certificates", "choose another name")
    return value


def _scalar(value: object) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise unfit("nothing in JSON equals it", "write a finite number")
    if isinstance(value, EnvText):
        return str(value)
    if isinstance(value, (str, int, float)):
        return value
    raise unfit(
        "wants text, a number, true or false", "JSON has no dates: write them as the text they are in the event"
    )


def _bind(value: str) -> str:
    parse_address(value, lowest_port=0)
    return value


def _address(value: str) -> str:
    parse_address(value)
    return value


def _addresses(value: str) -> str:
    for one in value.split(","):
        parse_address(one.strip())
    return value


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise unfit("wants a URL") from None
    return parts


def _archive_url(value: str) -> str:
    parts = _split(value)
    hdfs = parts.scheme in ("hdfs", "viewfs") and bool(parts.netloc) and len(parts.path) > 1
    local = parts.scheme == "file" and parts.netloc in ("", "localhost") and len(parts.path) > 1
    if not (hdfs or local) or parts.query or parts.fragment:
        raise unfit(
            "wants a folder on HDFS or here",
            'such as "hdfs://namenode:9000/recount" or "file:///var/lib/recount/archive"',
        )
    return value.rstrip("/")


def _web_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise unfit("wants the address other workers reach this one at", 'such as "http://worker-3:6066"')
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise unfit("wants a Redis URL", 'such as "redis://127.0.0.1:6379/0"')
    if parts.password:
        raise unfit("it holds a password", "move it to state.password_file or RECOUNT__STATE__PASSWORD")
    return value


def _absolute(value: object) -> object:
    if not isinstance(value, (str, Path)) or not str(value).startswith("/"):
        raise unfit("wants an absolute path", 'such as "/var/lib/recount"')
    return value


AT_LEAST_ONE = AfterValidator(_filled)
"""Not `min_length`: that one also complains about a list whose entries were refused."""

Text = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, EnvText) else value)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Positive = Annotated[int, BeforeValidator(_whole), _between(1)]
Replicas = Annotated[int, BeforeValidator(_whole), _between(1, 32_767)]
Size = Annotated[int, BeforeValidator(parse_bytes)]
LongEnough = Annotated[Duration, duration_between("1ms")]
StartMs = Annotated[int | None, BeforeValidator(parse_start_ms)]
AnyScalar = Annotated[Any, BeforeValidator(_scalar)]

AppId = Annotated[
    Text,
    _matching(
        re.compile(r"[A-Za-z0-9_-]{1,100}"),
        "letters, digits, _ and - only (at most 100)",
        "no dots: they separate the parts of transactional ids",
    ),
]
Instance = Annotated[
    Text,
    _matching(
        re.compile(r"[A-Za-z0-9._-]{0,200}"),
        "letters, digits, dots, _ and - only (at most 200)",
        "it names a folder and the group instance",
    ),
]
TopicName = Annotated[Text, _matching(KAFKA_NAME, "a Kafka topic name", "letters, digits, dots, _ and -, at most 249")]
TableName = Annotated[Text, AfterValidator(_table_name)]
FieldName = Annotated[Text, AfterValidator(_field_name)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
Bind = Annotated[Text, AfterValidator(_bind)]
Address = Annotated[Text, AfterValidator(_address)]
Addresses = Annotated[Text, AfterValidator(_addresses)]
ArchiveUrl = Annotated[Text, AfterValidator(_archive_url)]
WebUrl = Annotated[Text, AfterValidator(_web_url)]
RedisUrl = Annotated[Text, AfterValidator(_redis_url)]
