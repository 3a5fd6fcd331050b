"""Settings on a command line: as people type them, as Hydra reads them, as messages suggest them."""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path
from shutil import which
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

ROOT = Path(__file__).parents[3]
"""The folder of the project's scripts."""

PARSER = OverridesParser.create()
OVERRIDE = re.compile(r"~|\+{0,2}[^-+~=\s][^=\s]*=")
"""How an override begins; everything else on a command line is an option, or a mistake."""

NOT_TEXT = re.compile(r"""^[\[{"']|,|\$\{""")
"""Signs that a value is more than a text: lists, quotes, several values, references."""


def override(key: str, text: object) -> str:
    """Return what to type into a shell to give a setting this text: `KEY=TEXT`, in quotes if it needs them."""
    return shlex.quote(as_argument(key, text))


def as_argument(key: str, text: object) -> str:
    """Return a process's argument that gives a setting this text: `KEY=TEXT`, in Hydra's quotes if it needs them."""
    plain = f"{key}={text}"
    if _text(_parse(plain)) == str(text):
        return plain
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", str(text))
    return f"{key}={_quoted(literal)}"


def command(script: str, *settings: str) -> str:
    """Return what to type into a shell, in the user's current folder, to run a script of the project.

    Args:
        script: its path from the root of the project.
        settings: results of `override`.
    """
    python = "python" if which("python") == sys.executable else from_here(sys.executable)
    return " ".join([shlex.quote(python), shlex.quote(from_here(ROOT / script)), *settings])


def from_here(path: str | Path) -> str:
    """Return a path relative to the folder where the user started the program, or the absolute path if shorter."""
    here = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else os.getcwd()
    return min(os.path.relpath(path, here), str(Path(path).absolute()), key=len)


def tidy(arguments: list[str]) -> list[str]:
    """Return the arguments of a command with its options first, and each value in a form that Hydra can read.

    A value that does not fit Hydra's grammar, such as `a=b.ckpt`, is taken as text. A text that begins with `~/` is
    in the home folder, even if the shell has not replaced the `~`.

    Raises:
        ValueError: if an argument is neither an option nor of the form KEY=VALUE; the message says how to write it.
    """
    overrides = [argument for argument in arguments if OVERRIDE.match(argument)]
    options = [argument for argument in arguments if not OVERRIDE.match(argument)]
    words, unknown = _options(options)
    for option in unknown:
        raise ValueError(f"{option}: there is no such option, settings have no dashes{_as_setting(option, arguments)}")
    for word in words:
        written = _as_setting(word, arguments) or " (lists and spaces need quotes: 'KEY=[1,2]')"
        raise ValueError(f"{word!r} is not of the form KEY=VALUE{written}")
    return [*options, *(_readable(argument) for argument in overrides)]


def _options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the words that belong to no option of Hydra, and the options that Hydra does not have."""
    parser = get_args_parser()
    parser.allow_abbrev = parser.exit_on_error = False
    try:
        known, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:  # such as -ckpt, which begins like -c
        names = tuple((error.argument_name or "").split("/"))
        unknown = [argument for argument in arguments if argument.startswith(names) and argument not in names]
        if not unknown:
            raise ValueError(str(error)) from error
        return [], unknown
    return known.overrides, unknown


def _as_setting(word: str, arguments: list[str]) -> str:
    """Return how to write a word and its neighbours as a setting; an empty text if that is not clear."""
    place = arguments.index(word)
    key, _, value = word.lstrip("-\u2013\u2014").partition("=")
    if place and arguments[place - 1].endswith("="):
        key, value = arguments[place - 1].rstrip("="), word
    for following in arguments[place + 1 :]:
        if value or following.startswith("-") or OVERRIDE.match(following):
            break
        value = following.lstrip("=")
    key = key.replace("-", "_")
    return f": write {shlex.quote(_readable(f'{key}={value}'))}" if value and is_key(key) else ""


def is_key(text: str) -> bool:
    """Return whether a text can be the name of a setting."""
    return _parse(f"{text}=") is not None


def _readable(argument: str) -> str:
    """Return an override, with its value in quotes if only quotes make it the text that was meant."""
    parsed = _parse(argument)
    key, _, value = argument.partition("=")
    if parsed is None and NOT_TEXT.search(value):
        return argument
    text = value if parsed is None else _text(parsed)
    if text is None or (parsed and not text.startswith("~")):
        return argument
    quoted = f"{key}={_quoted(os.path.expanduser(text))}"
    return quoted if _parse(quoted) else argument


def _parse(argument: str) -> Override | None:
    try:
        return PARSER.parse_override(argument)
    except HydraException:
        return None


def _text(parsed: Override | None) -> Any:
    """Return the value of an override if it is one text, without references to other settings."""
    value = parsed.value() if parsed and not parsed.is_sweep_override() else None
    return value if isinstance(value, str) and "${" not in value else None


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.double).with_quotes()
