"""The training images that are nearest to images: does a flow repeat what it was trained on?

Examples:
    python scripts/edit/nearest.py images=samples/temperature-0.7/00000000
    python scripts/edit/nearest.py images=photos data=photos features=inception num_nearest=4

Distances are root mean squares of the differences of pixels, in grey levels, or distances between features.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that this checkout is used, from any folder

from data import ImageData
from flows.arguments import require_positive
from flows.training import call, check_config, command_line, image_grid, pick_device, save_png
from flows.training.grid import with_names
from flows.training.quality.features import Features, described_by, ready
from flows.training.quality.nearest import nearest, pixels
from scripts.files.new_folder import check_new_folder, new_folder
from scripts.files.read_images import read_images


@command_line("../../conf", "edit/nearest")
def main(cfg: DictConfig) -> None:
    """Find the nearest training images of those that the config names."""
    check_config(cfg)
    call(find, cfg)


@torch.no_grad()
def find(
    *,
    data: ImageData,
    features: Features | None = None,
    images: str | list[str],
    num_nearest: int,
    out: str,
    device: str,
) -> None:
    """Write `grid.png` into `out`, one row per image, and print the distances."""
    require_positive(num_nearest=num_nearest)
    check_new_folder(out)
    if features is not None:
        features.check(data.image_shape)
    given, names = read_images(images, data.image_shape)
    data.prepare_data()
    data.setup()
    train = data.sets["train"]
    described = pixels if features is None else on(pick_device(device), features)
    found = nearest(given, train, data.eval_batch_size, num_nearest, described)
    count = found.rows.shape[1]
    neighbours = train[found.rows.flatten().tolist()]
    rows = torch.cat((given[:, None], neighbours.images.unflatten(0, (-1, count))), 1)
    grid = image_grid(rows.flatten(0, 1), count + 1)
    folder = new_folder(out)
    save_png(with_names(grid, ["image", *map(str, range(1, count + 1))], []), folder / "grid.png")
    for name, distances in zip(names, found.distances.tolist(), strict=True):
        print(f"{name}: {' '.join(f'{distance:.2f}' for distance in distances)}")
    print(f"{folder}/grid.png: each image, and on its right the {count} nearest of {len(train):,} training images")


def on(device: torch.device, features: Features) -> Callable[[Tensor], Tensor]:
    """Return features that are computed on a device."""
    moved = ready(features, device)
    return lambda images: described_by(moved, images.to(device))


if __name__ == "__main__":
    main()
