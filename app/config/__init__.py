"""The configuration: one TOML file, overridden by the environment. docs/configuration.md lists the settings."""

from app.config.gaps import AcceptedGap, parse_gaps
from app.config.inactive import INACTIVE, inactive_settings, refuse_inactive
from app.config.load import MINIMAL, load_config, parse_config, read_secret, web_token
from app.config.model import Backend, Config
from app.config.problems import ConfigProblemsError, all_settings
from app.config.specs import to_specs
from app.config.units import Duration

__all__ = [
    "INACTIVE",
    "MINIMAL",
    "AcceptedGap",
    "Backend",
    "Config",
    "ConfigProblemsError",
    "Duration",
    "all_settings",
    "inactive_settings",
    "load_config",
    "parse_config",
    "parse_gaps",
    "read_secret",
    "refuse_inactive",
    "to_specs",
    "web_token",
]
