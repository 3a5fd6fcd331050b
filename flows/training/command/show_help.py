"""The help of a command: its examples, its choices, and its settings with the comments of their files."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

FLAGS = {"-h", "--help"}

WIDTH = 116
"""Columns of a line; longer comments stand above their settings."""

NOT_SHOWN = ("_convert_", "_partial_", "hydra")
"""Keys that are not for users of the command line."""

INTERNAL = ("hydra/", "sweep/")
"""Beginnings of groups that follow from other groups."""

KEY = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?: +(?P<value>.*))?$")

ENDING = re.compile(r"""(?:'[^']*'|"[^"]*"|[^'"\s]|\s+(?!#|\s))*\s+# ?(?P<comment>.*)$""")
"""A comment behind a value, which may be a quoted text."""

FOOTER = """\
A list is written 'KEY=[1,2]', with quotes. A setting that is not listed gets a + in front. KEY=VALUE beside --help
shows the settings that follow from it. --config-dir FOLDER adds configs of your own. --hydra-help lists other flags.
"""


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for help."""
    return not FLAGS.isdisjoint(arguments)


def help_text(about: str, configs: Path, config_name: str, arguments: Sequence[str]) -> str:
    """Return the help of a command.

    Args:
        about: what the command does, with examples.
        configs: folder of the configs.
        config_name: name of the command's own config.
        arguments: the command line.
    """
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=lambda folder: Path(folder).absolute())
    told, rest = parser.parse_known_args(arguments)
    folders = [configs, *([told.config_dir] if told.config_dir else [])]
    overrides = [argument for argument in rest if not argument.startswith("-")]
    searched = [f"hydra.searchpath=[file://{told.config_dir}]"] if told.config_dir else []
    with initialize_config_dir(str(configs), version_base="1.3"):
        cfg = compose(config_name, [*overrides, *searched], return_hydra_config=True)
        groups = "\n".join(group_lines(cfg, folders))
        comments = comments_of(config_name, [*overrides, *searched], folders)
    settings = "\n".join(setting_lines(OmegaConf.to_container(cfg, resolve=False), comments))
    return "\n".join(filter(None, [about.strip(), groups, f"\nSettings, set by KEY=VALUE:\n\n{settings}\n", FOOTER]))


def group_lines(cfg: DictConfig, folders: Sequence[Path]) -> Iterator[str]:
    """Go through the choices of the groups that the command has, each with the first sentence of its file."""
    for key, chosen in reversed(cfg.hydra.runtime.choices.items()):
        group = key.partition("@")[0]
        if key.startswith(INTERNAL):
            continue
        yield f"\nChoices of {key}=NAME (now {chosen or 'none'}):"
        for option in sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")}):
            yield f"  {option:<28} {first_sentence(find(f'{group}/{option}', folders))}"


def find(config: str, folders: Sequence[Path]) -> Path:
    """Return the file of a config."""
    return next((path for folder in folders if (path := folder / f"{config}.yaml").exists()), Path("missing"))


def first_sentence(path: Path) -> str:
    """Return the first sentence of the comment at the top of a file."""
    top, _ = read_comments(path.read_text(encoding="utf-8") if path.exists() else "")
    return re.split(r"(?<!al)\. ", f"{top} ")[0].rstrip(" .")


def comments_of(config_name: str, overrides: list[str], folders: Sequence[Path]) -> dict[str, str]:
    """Return the comment on each setting, by its full key; a later file replaces the comments of an earlier one."""
    defaults = GlobalHydra.instance().config_loader().compute_defaults_list(config_name, overrides, RunMode.RUN)
    found: dict[str, str] = {}
    for default in defaults.defaults:
        if default.config_path is None or default.config_path.startswith("hydra"):
            continue
        path = find(default.config_path, folders)
        if path.exists():
            _, comments = read_comments(path.read_text(encoding="utf-8"))
            package = f"{default.package}." if default.package else ""
            found |= {f"{package}{key}": comment for key, comment in comments.items()}
    return found


def read_comments(text: str) -> tuple[str, dict[str, str]]:
    """Return the comment at the top of a YAML file, and the comment on each key: above it, and behind its value."""
    top: list[str] = []
    above: list[str] = []
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    is_top = True
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            if not line.startswith("# @package"):
                (top if is_top else above).append(line.lstrip("# ").strip())
            continue
        is_top = False
        if match := KEY.match(line):
            indent = len(match["indent"])
            parents = [(depth, name) for depth, name in parents if depth < indent]
            parents.append((indent, match["key"]))
            behind = ENDING.match(f" {match['value'] or ''}")
            if comment := " ".join([*above, *([behind["comment"].strip()] if behind else [])]):
                found[".".join(name for _, name in parents)] = comment
        above = []
    return " ".join(top), found


def setting_lines(node: Any, comments: dict[str, str], where: str = "", indent: str = "") -> Iterator[str]:
    """Go through the lines of a config as YAML, with a comment behind each setting that has one."""
    for key, value in node.items():
        if key in NOT_SHOWN:
            continue
        path = f"{where}{key}"
        is_group = isinstance(value, dict) and value
        shown = "" if is_group else f" {yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]}"
        line, comment = f"{indent}{key}:{shown}", comments.get(path, "")
        if comment and len(line) + len(comment) > WIDTH:
            yield from wrap(comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            comment = ""
        yield f"{line}  # {comment}" if comment else line
        if is_group:
            yield from setting_lines(value, comments, f"{path}.", f"{indent}  ")
