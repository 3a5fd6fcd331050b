"""From the config of a command to the call of the function that does the work."""

import inspect
from collections.abc import Callable
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from flows.training.command.check_config import check_arguments

FOR_OTHERS = ("imports", "data_root")
"""Settings that other settings, or the command line, make use of."""


def call(function: Callable[..., Any], cfg: DictConfig, **others: Any) -> None:
    """Call a function with the settings of a config as arguments, and with `others`, which the config does not have.

    Settings with a `_target_` are built first.

    Raises:
        ValueError: if a value has the wrong type, or if the function has no such argument; the message says which.
    """
    settings: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    for key in FOR_OTHERS:
        if key not in inspect.signature(function).parameters:
            settings.pop(key, None)
    to_build = [key for key, value in settings.items() if isinstance(value, dict) and "_target_" in value]
    arguments = {key: value for key, value in settings.items() if key not in to_build}
    check_arguments(function, arguments)
    function(**arguments, **{key: instantiate(cfg[key]) for key in to_build}, **others)
