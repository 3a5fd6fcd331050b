"""What a run knows about its code and its data."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flows.training.command.overrides import override

ELSEWHERE = ("index_dir", "in_memory")
"""Settings of a source that may differ from machine to machine; of a source that is no folder, so may its root."""

IN_SOURCE = ("test_fraction", "group", "seed", "enlarge", "max_pixels")
"""Settings of a source on which it depends which images are in a split."""

DEPENDS_ON = {
    "train": ("num_val", "split_seed", "num_train", *IN_SOURCE),
    "val": ("num_val", "split_seed", *IN_SOURCE),
    "test": IN_SOURCE,
}
"""The settings on which the images of a split depend."""


def describe_data(cfg: Mapping[str, Any] | DictConfig) -> str:
    """Return one line of text about a data set, from the config of a `data.ImageData`."""
    config: Any = OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg
    told = config["source"]
    source = {"_target_": told} if isinstance(told, str) else dict(told)
    name = str(source.pop("_target_", "")).rpartition(".")[2]
    split = {key: config.get(key) for key in ("image_shape", "num_val", "num_train", "split_seed")}
    return f"{name} {json.dumps({**source, **split})}"


def check_split(trained_on: str | None, data: str, split: str) -> None:
    """Check that the images of a split are those that the run of a flow had in it, if both read the same source.

    Args:
        trained_on: the data of the run, as `describe_data` tells them; None if they are not known.
        data: the data that are read now.
        split: of these.

    Raises:
        ValueError: if the source is split in another way; the message names the settings of the run.
    """
    before, now = _parts(trained_on, split), _parts(data, split)
    if before is None or now is None or before[0] != now[0]:
        return
    if any(before[1][key] != now[1][key] for key in before[1].keys() & now[1].keys()):
        same = " ".join(_typed(key, value) for key, value in before[1].items())
        raise ValueError(f"the {split} images of the flow's run were others: give {same}, as in that run")


def _typed(key: str, value: Any) -> str:
    """Return what to type to give a setting of the data this value."""
    name = f"data.source.{key}" if key in IN_SOURCE else f"data.{key}"
    return override(name, value) if isinstance(value, str) else f"{name}={json.dumps(value)}"


def _parts(told: str | None, split: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return what tells a source, and the settings that tell a split of it; None if the text has another form."""
    name, _, settings = (told or "").partition(" ")
    try:
        source = json.loads(settings)
        cut = {key: source.pop(key) for key in ("num_val", "split_seed", "num_train")}
        cut |= {key: source.pop(key) for key in IN_SOURCE if key in source}
    except (ValueError, KeyError, TypeError, AttributeError):  # a file of another version
        return None
    for key in ELSEWHERE if name == "ImageFolder" else (*ELSEWHERE, "root"):
        source.pop(key, None)
    return source | {"name": name}, {key: value for key, value in cut.items() if key in DEPENDS_ON.get(split, ())}


def git_commit() -> str | None:
    """Return the commit of this code, marked if files differ from it; None outside its own git checkout."""
    here = Path(__file__)
    if _git("ls-files", "--error-unmatch", here.name) is None:  # such as in an environment inside another repository
        return None
    return _git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
