"""What is wrong with a config, as one sentence for people."""

import inspect
import re
import shlex
from collections.abc import Iterator

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from flows.arguments import did_you_mean
from flows.training.command.overrides import ROOT, from_here, is_key, override

LISTS_ALL = "; --help lists all"


def explain_config(error: HydraException | OmegaConfBaseException | YAMLError) -> str:
    """Return in one line what is wrong, where, and what to do."""
    text = " ".join(str(error).split())
    match error:
        case MissingConfigException(missing_cfg_file=str(file), options=[*_] as options) if "/" in file:
            group, _, name = file.rpartition("/")
            choices = f"there is no such choice{did_you_mean(name, options)}, but {', '.join(options)}"
            return f"{_file(text)}{group}={name}: {choices if options else 'there is no such group' + LISTS_ALL}"
        case MissingConfigException():
            return text.partition(" Config search path")[0]
        case OverrideParseException():
            return _unreadable(error.override)
        case MissingMandatoryValue():
            return f"{error.full_key} has no value: give {error.full_key}=VALUE"
        case HydraException(__cause__=ConfigAttributeError() | ConfigKeyError() as cause):
            typed = re.search(r"use \+(.*)", str(error))
            return _no_such_setting(cause, typed[1] if typed else "")
        case HydraException(__cause__=OmegaConfBaseException() as cause):
            return f"{text}: {explain_config(cause)}"
        case HydraException():
            return _composition(text)
        case OmegaConfBaseException():
            complaint = str(error).splitlines()[0].strip('"')
            inner = complaint.partition("raised while resolving interpolation: ")[2]
            return inner or (f"{error.full_key}: {complaint}" if error.full_key else complaint)
        case MarkedYAMLError(problem=str(problem)) if error.problem_mark is not None:
            advice = "put spaces in place of tabs" if r"\t" in problem else "look there, and at the line before"
            return f"{from_here(error.problem_mark.name)}, line {error.problem_mark.line + 1}: {problem}: {advice}"
    return text


def _unreadable(typed: str) -> str:
    key, equal, value = typed.partition("=")
    if not equal or not is_key(key):
        return f"{typed!r} is not of the form KEY=VALUE (lists and spaces need quotes: 'KEY=[1,2]')"
    return f"the value in {typed!r} cannot be read: a list is written '{key}=[1,2]', this text {override(key, value)}"


def _no_such_setting(cause: ConfigAttributeError | ConfigKeyError, typed: str) -> str:
    key, parent = str(cause.full_key), cause.parent_node
    group, _, name = key.rpartition(".")
    if not isinstance(parent, DictConfig):
        return f"{key}: there is no such setting{LISTS_ALL}"
    outer = parent._get_parent()
    if isinstance(outer, DictConfig) and "_target_" in outer and name in outer:
        return f"{key}: it is set by {'.'.join([*group.split('.')[:-1], name])}"
    if typed.startswith(f"{key}=") and name in _arguments(parent):
        return f"{key} is not set so far: put a + in front to add it, {shlex.quote('+' + typed)}"
    deeper = sorted((path for path in _paths(parent) if path.endswith(f".{name}")), key=len)
    nearest = f" (did you mean {'.'.join(filter(None, [group, deeper[0]]))!r}?)" if deeper else ""
    return f"{key}: there is no such setting{nearest or did_you_mean(name, map(str, parent))}{LISTS_ALL}"


def _arguments(node: DictConfig) -> list[str]:
    """Return the named arguments of the `_target_` of a node."""
    try:
        return list(inspect.signature(get_object(node["_target_"])).parameters)
    except Exception:  # there is no target, or the target itself is wrong
        return []


def _paths(node: DictConfig, where: str = "") -> Iterator[str]:
    """Return the keys of a config at all depths, except Hydra's own keys."""
    for key in map(str, node):
        path = f"{where}{key}"
        yield path
        is_own = path != "hydra" and not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key)
        if is_own and isinstance(node[key], DictConfig):
            yield from _paths(node[key], f"{path}.")


def _composition(text: str) -> str:
    if several := re.search(r"Ambiguous value for argument '(.*?)=(.*)' 1\. ", text):
        key, values = several.groups()
        ways = f"{shlex.quote(f'{key}=[{values}]')} for a list, {override(key, values)} for one text"
        return f"{key} has several values: add -m to run with each, or write {ways}"
    if several := re.search(r"Sweep parameters '(.*)' requires --multirun", text):
        return f"{several[1]} stands for several values: add -m to run with each"
    if there := re.search(r"already at '(.*?)'\. Either remove \+ prefix: '(.*?)' Or add", text):
        return f"{there[1]} is set already: leave out the +, {shlex.quote(there[2])}"
    if unknown := re.search(r"Could not override '(.*?)'\. No match in the defaults list", text):
        groups = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {unknown[1]}
        return f"{_file(text)}{unknown[1]}: there is no such group here{did_you_mean(unknown[1], groups)}{LISTS_ALL}"
    return text


def _file(text: str) -> str:
    """Return the file that Hydra's message is about, if it is not a script's own config."""
    found = re.match(r"In '((?!hydra/)[^']+/[^']+)':", text)
    return f"{found[1]}.yaml: " if found else ""
