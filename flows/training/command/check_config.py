"""Check values of a config against the annotations of the functions that take them, before anything is built."""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from flows.arguments import did_you_mean

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # failed imports are reported here


def check_config(cfg: DictConfig, where: str = "") -> None:
    """Check every value in a config, at any depth, that is passed to a `_target_`.

    Raises:
        ValueError: if a value has the wrong type, or if there is no such argument; the message says where.
        ImportError: if there is no such `_target_`, or if importing it fails.
    """
    arguments = {}
    for key in map(str, cfg):
        if OmegaConf.is_missing(cfg, key):
            continue
        path, value = f"{where}.{key}" if where else key, cfg[key]
        parts = value if isinstance(value, ListConfig) else [value]
        objects = [part for part in parts if isinstance(part, DictConfig)]
        if not objects and not key.startswith("_"):
            arguments[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if not OmegaConf.is_interpolation(cfg, key):
            for part in objects:
                check_config(part, path)
    if "_target_" in cfg:
        check_arguments(_target(cfg["_target_"], where), arguments, where)


def _target(name: str, where: str) -> Callable[..., Any]:
    try:
        return get_object(name)
    except Exception as error:
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}: {cause}"
        for lacking in cause, cause.__context__:  # Hydra looks for an attribute first, then for a module
            if isinstance(lacking, AttributeError):
                reason = f"{lacking}{did_you_mean(str(lacking.name), dir(lacking.obj))}"
        if isinstance(cause, ModuleNotFoundError) and cause.name == name.partition(".")[0]:
            reason += ": for a file of your own, give 'imports=[FILE.py]', too"
        raise ImportError(f"{where}._target_: {name} cannot be imported ({reason})") from error


def check_settings(cfg: DictConfig, known: Mapping[str, Any]) -> None:
    """Check that each setting at the top level has the right type, and is known or used by another setting.

    Raises:
        ValueError: if not; otherwise a setting that nothing uses would have no effect and give no message.
    """
    text = OmegaConf.to_yaml(cfg)
    for key in map(str, cfg):
        if key in known:
            _check_value(key, cfg[key], known[key])
        elif not re.search(rf"\$\{{\.*{re.escape(key)}\b", text):
            raise ValueError(
                f"{key}: nothing uses this setting{did_you_mean(key, known)}; a file of your own with settings for "
                "the whole run begins with the line '# @package _global_'"
            )


def check_arguments(function: Callable[..., Any], arguments: dict[str, Any], where: str = "") -> None:
    """Check keyword arguments against the annotations of a function or class.

    Raises:
        ValueError: in the same cases as `check_config`.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some built-in classes have no signature
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # an annotation uses a name that is imported for type checkers only
        hints = {}
    for name, value in arguments.items():
        path = f"{where}.{name}" if where else name
        if name in parameters and name in hints:
            _check_value(path, value, hints[name])
        elif name not in parameters and not takes_any:
            raise ValueError(f"{path}: {function.__name__} has no such argument{did_you_mean(name, parameters)}")


def _check_value(path: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value, strict=True)
    except PydanticSchemaGenerationError:
        return
    except ValidationError as error:
        if isinstance(value, list) and any(e["type"] == "tuple_type" for e in error.errors()):  # YAML has no tuples
            return _check_value(path, tuple(value), hint)
        wanted = " or ".join(dict.fromkeys(e["msg"].removeprefix("Input should be ") for e in error.errors()))
        wanted = wanted.replace("an instance of Sequence", "a list")
        raise ValueError(f"{path} should be {wanted}, got {value!r}") from None
