"""From a TOML file and the environment to a `Config`, or to a list of everything that is wrong."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from app.config.crosscheck import cross_check
from app.config.environment import overlay, overrides, variables_in
from app.config.model import Config
from app.config.problems import SECRETS, ConfigProblemsError, explain
from domain.errors import ConfigError

MINIMAL = """\
[app]
id = "clicks"
[[topics]]
name = "clicks"
event_time = { field = "ts", format = "epoch_ms" }
[[tables]]
name = "page_views"
topic = "clicks"
key = ["page"]
"""


def load_config(path: Path, environ: Mapping[str, str] | None = None, host_name: str | None = None) -> Config:
    """The settings of `path` under those of the environment, defaults filled in.

    Raises `ConfigProblemsError` with all problems, or `ConfigError` if the file can't be read.
    """
    return parse_config(_read(path), str(path), environ, host_name)


def parse_config(
    text: str, origin: str = "configuration", environ: Mapping[str, str] | None = None, host_name: str | None = None
) -> Config:
    """As `load_config`, from the file's text."""
    environ = os.environ if environ is None else environ
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise _syntax(origin, text, err) from err
    problems = list(_secrets_in(written))
    try:
        settings = overlay(written, overrides(environ))
        config = Config.model_validate(settings)
    except ValidationError as err:
        problems += explain(err, variables_in(environ))
    except ConfigError as err:
        problems.append(err)
    else:
        problems += cross_check(config)
    if problems:
        raise ConfigProblemsError(origin, problems)
    return _with_defaults(config, socket.gethostname() if host_name is None else host_name)


def read_secret(setting: str, value: SecretStr | None, file: Path | None) -> str | None:
    """A secret from its variable or file, without the file's trailing newline; None if neither is set."""
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return None
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            setting, f"{file} can't be read ({_why(err)})", "make it readable text for this user"
        ) from err
    if not secret:
        raise ConfigError(setting, f"{file} is empty", "write the secret into it")
    return secret


def web_token(config: Config) -> str | None:
    """The token readers must send, None if none is asked for. Raises `ConfigError`."""
    return read_secret("web.token_file", config.web.token, config.web.token_file)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise ConfigError(
            str(path), "no such file", f"name one with --config, or make one with at least\n\n{MINIMAL}"
        ) from err
    except UnicodeDecodeError as err:
        raise ConfigError(str(path), f"not UTF-8 at byte {err.start}", "save it as UTF-8") from err
    except OSError as err:
        raise ConfigError(str(path), _why(err), "name a readable file with --config") from err


def _why(err: Exception) -> str:
    return (err.strerror if isinstance(err, OSError) else None) or str(err)


def _syntax(origin: str, text: str, err: tomllib.TOMLDecodeError) -> ConfigError:
    # Until Python 3.14 the place stands only in the message.
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(err))
    if match is None:
        return ConfigError(origin, f"not TOML: {err}")
    lines = text.splitlines() or [""]
    line, column = (match[2], match[3]) if match[2] else (len(lines), len(lines[-1]) + 1)
    return ConfigError(f"{origin}, line {line}, column {column}", f"not TOML: {match[1]}")


def _secrets_in(written: Mapping[str, Any]) -> Iterator[ConfigError]:
    for name in sorted(SECRETS):
        section, _, key = name.partition(".")
        entries = written.get(section)
        if isinstance(entries, dict) and key in entries:
            variable = f"RECOUNT__{section}__{key}".upper()
            yield ConfigError(name, "a secret doesn't belong in this file", f"set {variable} or {name}_file")


def _with_defaults(config: Config, host_name: str) -> Config:
    if not config.app.instance:
        instance = re.sub(r"[^A-Za-z0-9._-]", "-", host_name).strip(".")[:200] or "worker"
        config = config.model_copy(update={"app": config.app.model_copy(update={"instance": instance})})
    archive = config.sinks.archive
    if archive is not None and not archive.url:
        archive = archive.model_copy(update={"url": (config.app.data_dir / "archive").as_uri()})
        config = config.model_copy(update={"sinks": config.sinks.model_copy(update={"archive": archive})})
    return config
