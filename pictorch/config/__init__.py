"""The typed, frozen description of a run, and how it is read. Imports neither torch nor any other room."""

from pictorch.config.errors import OptionError, UserError, nearest
from pictorch.config.explain import ConfigError, locate
from pictorch.config.files import dump
from pictorch.config.load import Loaded, load
from pictorch.config.schema import Config, config_hash, differences, to_dict

__all__ = [
    "Config",
    "ConfigError",
    "Loaded",
    "OptionError",
    "UserError",
    "config_hash",
    "differences",
    "dump",
    "load",
    "locate",
    "nearest",
    "to_dict",
]
