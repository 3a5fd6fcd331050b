"""Latents as files."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow

FORM = "flows.latents 1"
"""Kind and version of the files."""


def save_latents(path: str | Path, flow: ImageFlow, zs: Sequence[Tensor], names: Sequence[str] = ()) -> None:
    """Write latents into an `.npz` file: `z0` (finest) to `zL-1`, and `names`, one per image.

    Args:
        path: of the file.
        flow: to which the latents belong.
        zs: as `ImageFlow.encode` returns them.
        names: one per image, or none.
    """
    about = json.dumps({"form": FORM, "flow": fingerprint(flow)})
    levels = {f"z{level}": z.detach().cpu().numpy() for level, z in enumerate(zs)}
    with Path(path).open("wb") as file:
        np.savez(file, about=np.array(about), names=np.array([*names], dtype=np.str_), **levels)  # type: ignore[arg-type]


def load_latents(path: str | Path, flow: ImageFlow) -> tuple[list[Tensor], list[str]]:
    """Read latents, finest first, and the names of the images.

    Raises:
        ValueError: if it is no such file, or if its latents belong to another flow.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            about: dict[str, Any] = json.loads(str(file["about"]))
            same_flow = about.get("form") == FORM and about.get("flow") == fingerprint(flow)
            names = [str(name) for name in file["names"]]
            num_levels = len(flow.latent_shapes) if same_flow else 0
            zs = [torch.from_numpy(file[f"z{level}"]) for level in range(num_levels)]
    except (KeyError, ValueError, TypeError, AttributeError, OSError, EOFError, BadZipFile, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} holds no latents: give a file that save_latents wrote ({error})") from error
    if not same_flow:
        raise ValueError(f"{path} holds the latents of another flow: give the flow that encoded them")
    return zs, names
