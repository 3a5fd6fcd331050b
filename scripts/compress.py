"""Code images without loss into one file, in as many bits as a flow says, and compare with what it says.

Examples:
    python scripts/compress.py images=shirts out=shirts.flow     # all images of a folder, with a flow in the box
    python scripts/compress.py ckpt=PATH data=photos num_images=1000

scripts/decompress.py gives the images back. Both need `pip install -e '.[compress]'`.
"""

import os
import sys
import time
from pathlib import Path, PurePosixPath

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import ImageData
from data.files.decode import MODES, original
from flows.arguments import choose, require_positive
from flows.coding import ImageCodec, write_stream
from flows.image_flow import ImageFlow
from flows.likelihood import bits_per_dim
from flows.noise import uniform_noise
from flows.training import call, check_config, command_line, load_flow, to_json
from flows.training.given import check_fits
from flows.training.grid import check_channels
from scripts.files.decoded_name import decoded_name
from scripts.files.new_file import check_new_file
from scripts.files.read_images import read_images

NUM_DRAWS = 4
"""Draws of noise for the bits/dim that the flow says."""
LONGEST_NAME = 255
"""Most bytes in the name of a file."""


@command_line("../conf", "compress")
def main(cfg: DictConfig) -> None:
    """Code the images that the config names."""
    check_config(cfg)
    call(compress, cfg)


@torch.no_grad()
def compress(
    *,
    data: ImageData,
    ckpt: str,
    images: str | list[str] | None,
    split: str | None,
    num_images: int | None,
    batch_size: int,
    out: str,
) -> None:
    """Write the file, and print figures as JSON; see conf/compress.yaml for the arguments."""
    check_new_file("out", out)
    path = Path(out)
    if images is not None and (split, num_images) != (None, None):
        raise ValueError("split and num_images choose images of data: leave them out with images=...")
    flow = load_flow(ckpt)
    check_channels(flow.image_shape[0])
    codec = ImageCodec(flow)
    pixels, names = of_data(data, ckpt, flow, split or "test", num_images) if images is None else of_files(images, flow)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("images", total=len(pixels))
        start = time.perf_counter()
        coded = codec.encode(pixels, batch_size, lambda count: progress.advance(task, count))
        seconds = time.perf_counter() - start
    write_stream(path, flow, coded, names)
    bits, starting_bits = coded.num_bits(flow.num_dims)
    result = {
        "images": len(pixels),
        "bits_per_dim": bits / pixels.numel(),
        "bits_per_dim_of_flow": said_by(flow, pixels),
        "starting_bits": starting_bits,
        "bits_per_dim_with_starting_bits": (bits + starting_bits) / pixels.numel(),
        "bits_per_dim_of_file": 8 * path.stat().st_size / pixels.numel(),
        "seconds_per_image": seconds / len(pixels),
    }
    print(to_json(result))


def of_data(
    data: ImageData, ckpt: str, flow: ImageFlow, split: str, num_images: int | None
) -> tuple[Tensor, list[str]]:
    """Return the first images of a split, uint8 `(N, C, H, W)`, and no names."""
    if num_images is not None:
        require_positive(num_images=num_images)
    check_fits(ckpt, flow, data)
    data.prepare_data()
    data.setup()
    chosen = choose("split", data.sets, split)
    return chosen[[*range(min(len(chosen), num_images or len(chosen)))]].images, []


def of_files(told: str | list[str], flow: ImageFlow) -> tuple[Tensor, list[str]]:
    """Return images from files, uint8 `(N, C, H, W)`, and their paths from the folder that holds all of them.

    Files with other colours than the flow are turned into these, which is said.

    Raises:
        ValueError: if two files would come back as one.
    """
    images, found = read_images(told, flow.image_shape)
    paths = [os.path.abspath(path) for path in found]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [os.path.relpath(path, folder) for path in paths]
    back: dict[PurePosixPath, str] = {}
    for path, name in zip(paths, names, strict=True):
        if (other := back.setdefault(decoded_name(name), path)) is not path:
            raise ValueError(f"{other} and {path} would both come back as {decoded_name(name)}: leave one out")
        if len(os.fsencode(decoded_name(name).name)) > LONGEST_NAME:
            raise ValueError(f"{path} would come back as a file with too long a name: give it a shorter one")
    wanted = MODES[flow.image_shape[0]]
    for path in paths:
        mode = original(Path(path)).mode
        if mode != wanted:
            print(f"{path}: turned from {mode} into {wanted}, and comes back so", file=sys.stderr)
    return images, names


def said_by(flow: ImageFlow, images: Tensor) -> float:
    """Return the mean bits/dim that a flow says, over draws of noise, and the low bits that it drops."""
    found = []
    for rows in torch.arange(len(images)).split(250):
        for draw in range(NUM_DRAWS):
            noise = uniform_noise(rows, flow.image_shape, seed=0, stream=draw)
            found.append(bits_per_dim(flow.log_prob(images[rows], noise=noise), flow.num_dims).double().sum())
    dropped = 8 - flow.dequantize.num_bits
    return torch.stack(found).sum().item() / (NUM_DRAWS * len(images)) + dropped


if __name__ == "__main__":
    main()
