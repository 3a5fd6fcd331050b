"""Draw sample images from a trained flow. One file is all it needs.

Examples:
    python sample.py                                                # Fashion-MNIST; the weights come with the project
    python sample.py ckpt=outputs/mine/best.safetensors
    python sample.py ckpt=PATH 'temperature=[0,0.5,0.7,1]'          # one row per temperature, all with the same seeds
    python sample.py ckpt=PATH num_samples=50000 temperature=0.7    # writes folders of 1,000 images
    python sample.py ckpt=PATH num_samples=50000 temperature=0.7 out=many   # goes on if it was interrupted
    srun python sample.py ckpt=PATH num_samples=50000 temperature=0.7   # shared by the tasks of a SLURM job
    python sample.py ckpt=PATH label=3                              # for a class-conditional flow
    python sample.py ckpt=PATH 'guidance=[0,1,2]' temperature=1     # for a flow that was trained with label dropout
    python sample.py ckpt=PATH 'seed=[7,3,40]' 'label=[0,5,5]' images=false   # chosen images, the grid only
    python sample.py ckpt=PATH condition=small                      # for a flow that is given images: a folder of them
"""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from hashlib import sha256
from itertools import count, takewhile
from pathlib import Path

try:
    import torch
    from omegaconf import DictConfig
    from torch import Tensor

    from flows import Sampler
    from flows.arguments import require_positive
    from flows.check_inputs import check_seeds
    from flows.fingerprint import fingerprint
    from flows.image_flow import ImageFlow
    from flows.provenance import Provenance
    from flows.training import (
        call,
        command_line,
        image_grid,
        is_first_rank,
        load_flow,
        pick_device,
        save_png,
        set_tf32,
    )
    from flows.training.command.track import track
    from flows.training.grid import check_channels, enlarged, read_pngs, with_names
    from flows.training.knobs import all_knobs
    from flows.training.machine.sharing import shared
    from flows.training.unfinished import check_same, hold_unfinished, is_unfinished
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: in the folder of sample.py, run {sys.executable} -m pip install --editable '.[train]'")

FOLDER = "samples"
"""The folder for the images if none is given."""
SHARD = 1000
"""Images per folder."""
NUM_SAMPLES = 64
"""Images if their number is not given."""
NUM_COLUMNS = 8
"""Images per row of the grid if their number is not given, for one class or no classes."""
MOST_COLUMNS = 20
"""With more classes than this, a row of the grid has NUM_COLUMNS images, too."""


@command_line("conf", "sample")
def main(cfg: DictConfig) -> None:
    """Draw the samples that the config asks for."""
    call(draw, cfg)


def draw(
    *,
    ckpt: str,
    temperature: float | list[float],
    guidance: float | list[float],
    level_temperature: list[float] | None,
    num_samples: int | None,
    seed: int | list[int],
    label: int | list[int] | None,
    condition: str | None,
    nrow: int | None,
    images: bool,
    parallel: bool,
    out: str | None,
    device: str,
    batch_size: int,
) -> None:
    """Write `OUT/grid.png` and `OUT/KNOBS/SHARD/SEED.png`; see conf/sample.yaml for the arguments.

    If the same command was interrupted in this folder, draw the batches that are not all there.
    """
    require_positive(batch_size=batch_size)
    several = isinstance(temperature, list) or isinstance(guidance, list) or condition is not None
    seeds = seeds_from(seed, num_samples)
    place, home = pick_device(device), Path(fresh_folder() if out is None else out)
    grid = home / "grid.png"
    folders = {knobs: home / knobs.folder for knobs in all_knobs(temperature, guidance, level_temperature)}
    goes_on = images and is_unfinished(home)
    for path in [grid] if goes_on else [grid, *folders.values()]:
        if path.exists():
            raise FileExistsError(f"{path} holds samples already: give another folder by out=, or remove it")

    set_tf32(False)
    flow, provenance = load_flow(ckpt, with_provenance=True)
    check_channels(flow.image_shape[0])
    for knobs in folders:
        flow.check_drawing(knobs.guidance, knobs.level_temperature)
    classes = classes_from(flow, label)
    conditions = read_conditions(flow, condition)
    if nrow is None:
        nrow = len(seeds) if isinstance(seed, list) and several else columns_for(classes)
    require_positive(nrow=nrow)
    columns = min(nrow, len(seeds))
    num_shown = columns if several else min(nrow * columns, len(seeds))
    if not images and num_shown < len(seeds):
        if isinstance(seed, list) or num_samples is not None:
            raise ValueError(f"a grid with nrow={nrow} shows {num_shown} of {len(seeds)} images: set nrow={len(seeds)}")
        seeds = seeds[:num_shown]
    of_classes = seeds if label is None else range(len(seeds))
    first_row = in_turn(conditions, seeds[:columns], torch.device("cpu"))
    shown = [] if first_row is None else [enlarged(first_row, flow.image_shape)]
    settings = {
        "ckpt": fingerprint(flow),
        "temperature": temperature,
        "guidance": guidance,
        "level_temperature": level_temperature,
        "num_samples": len(seeds),
        "seed": seed,
        "label": label,
        "condition": None if conditions is None else sha256(conditions.numpy().tobytes()).hexdigest(),
        "parallel": parallel,
        "batch_size": batch_size,
    }
    if goes_on:
        check_same(home, settings)
    batches = [range(start, min(start + batch_size, len(seeds))) for start in range(0, len(seeds), batch_size)]
    with shared() as share, hold_unfinished(home, settings) if images and share.is_first else nullcontext():
        share.wait()
        sampler = Sampler(flow.to(place), parallel)
        for knobs, folder in folders.items():
            told = track(share.of(batches), str(knobs))
            first = []
            for some in told:
                chosen = seeds[some.start : some.stop]
                paths = [folder / f"{one // SHARD * SHARD:08d}" / f"{one:08d}.png" for one in chosen]
                drawn = read_pngs(paths) if goes_on else None
                if drawn is None:
                    drawn = sampler.sample(
                        chosen,
                        label=in_turn(classes, of_classes[some.start : some.stop], place),
                        condition=in_turn(conditions, chosen, place),
                        **knobs._asdict(),
                    ).cpu()
                    for image, path in zip(drawn, paths, strict=True):
                        if images:
                            save_png(image, path)
                first.append(drawn[: max(0, num_shown - some.start)].clone())  # a copy, to free the rest
            shown += share.gathered(first)
        if not share.is_first:
            return
        rows = [*([] if conditions is None else ["conditions"]), *map(str, folders)]
        names = names_of_columns(in_turn(classes, of_classes[:num_shown], torch.device("cpu")), columns, provenance)
        save_png(with_names(image_grid(torch.cat(shown), columns), names, rows if several else []), grid)
    print(f"{grid}: {'one row each: ' if several else ''}{'; '.join(rows)}")
    if images:
        print(f"{home}/temperature-*/: {len(seeds):,} images each, named by their seeds")


def fresh_folder() -> str:
    """Return `samples`, or, if it is there already, the first of `samples-2`, `samples-3` and so on that is not."""
    names = (FOLDER if number == 1 else f"{FOLDER}-{number}" for number in count(1))
    there = [*takewhile(os.path.exists, names)]
    fresh = f"{FOLDER}-{len(there) + 1}" if there else FOLDER
    if there and is_first_rank():
        print(f"{FOLDER} is there already: this goes into {fresh}")
        for name in there:
            if is_unfinished(Path(name)):
                print(f"{name} is unfinished: add out={name} to the command that began it to go on")
    return fresh


def columns_for(classes: Tensor | None) -> int:
    """Return how many images a row of the grid has: one per class, if there are a few classes."""
    return NUM_COLUMNS if classes is None or not 1 < len(classes) <= MOST_COLUMNS else len(classes)


def seeds_from(seed: int | list[int], num_samples: int | None) -> Sequence[int]:
    """Return the seeds of the images: those of a list, or `num_samples` that begin with a number.

    Raises:
        ValueError: if a seed is out of range or repeated, or if the list does not have `num_samples` seeds.
    """
    if num_samples is not None:
        require_positive(num_samples=num_samples)
    if not isinstance(seed, list):
        (first,) = check_seeds([seed])
        seeds = range(first, first + (num_samples or NUM_SAMPLES))
        check_seeds(seeds[-1:])
        return seeds
    listed = check_seeds(seed)
    if len({*listed}) < len(listed):
        raise ValueError(f"seed is a whole number, or a list of whole numbers that all differ, got {seed}")
    if num_samples not in (None, len(listed)):
        raise ValueError(f"there are {len(listed)} seeds and num_samples={num_samples}: leave num_samples out")
    return listed


def classes_from(flow: ImageFlow, label: int | list[int] | None) -> Tensor | None:
    """Return the classes that images take in turn: those given, or all. Return None for an unconditional flow.

    Raises:
        ValueError: if an unconditional flow gets a label, or if a conditional flow gets a label that it does not know.
    """
    if flow.num_classes is None:
        if label is not None:
            raise ValueError("this flow was trained without labels: leave label out")
        return None
    if label is None:
        return torch.arange(flow.num_classes)
    classes = label if isinstance(label, list) else [label]
    if not classes or not all(type(one) is int and 0 <= one < flow.num_classes for one in classes):
        raise ValueError(f"label is between 0 and {flow.num_classes - 1}, or a list of such numbers, got {label}")
    return torch.tensor(classes)


def names_of_columns(classes: Tensor | None, num_columns: int, provenance: Provenance | None) -> list[str]:
    """Return a name for each column of a grid: that of the class which all its images show.

    Without classes, or if a column shows several of them, there are no names. A class has a number for a name if the
    file of the flow knows no other.

    Args:
        classes: those of the images of the grid.
        num_columns: number of columns.
        provenance: what the file of the flow knows.
    """
    if classes is None or not torch.equal(classes, classes[torch.arange(len(classes)) % num_columns]):
        return []
    known = None if provenance is None else provenance.class_names
    return [str(number) if known is None else known[number] for number in classes[:num_columns].tolist()]


def read_conditions(flow: ImageFlow, folder: str | None) -> Tensor | None:
    """Return the images of a folder, sorted by name: uint8 `(N, *flow.condition_shape)`.

    Return None for a flow that has no condition.

    Raises:
        ValueError: if the flow has a condition, but there are no images or their size is another one; or if it has no
            condition, but a folder is given.
    """
    if flow.condition_shape is None:
        if folder is not None:
            raise ValueError("this flow was trained without conditions: leave condition out")
        return None
    _, height, width = flow.condition_shape
    size = f"{width}x{height} pixels (width x height)"
    if folder is None:
        raise ValueError(f"this flow is given images of {size}: name a folder of such images by condition=FOLDER")
    from data.files.decode import check_shape, decode, original
    from data.files.walk import images_in

    root = Path(folder).expanduser()
    paths = images_in(root) if root.is_dir() else []
    if not paths:
        raise ValueError(f"condition={folder} is no folder with images in it: give one with images of {size}")
    for path in paths:
        found = original(path)
        if (found.width, found.height) != (width, height):
            raise ValueError(
                f"{path} has {found.width}x{found.height} pixels, and this flow is given images of {size}: "
                "scale it before"
            )
    return torch.stack([decode(path, check_shape(flow.condition_shape)) for path in paths])


def in_turn(things: Tensor | None, turns: Sequence[int], device: torch.device) -> Tensor | None:
    """Return one of the things for each turn, all of them again and again. Return None if there are none."""
    return None if things is None else things[[turn % len(things) for turn in turns]].to(device)


if __name__ == "__main__":
    main()
