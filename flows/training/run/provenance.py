"""What a run knows about its code and its data."""

import json
import subprocess
from pathlib import Path
from typing import Any


def describe_data(config: dict[str, Any]) -> str:
    """Return one line of text about a data set, from the plain config of a `data.ImageData`."""
    told = config["source"]
    source = {"_target_": told} if isinstance(told, str) else dict(told)
    name = str(source.pop("_target_", "")).rpartition(".")[2]
    split = {key: config.get(key) for key in ("image_shape", "num_val", "num_train", "split_seed")}
    return f"{name} {json.dumps({**source, **split})}"


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
