"""Train a small classifier, with or without more images from a folder, and measure its accuracy.

Examples:
    python scripts/classify.py data.num_train=100
    python scripts/classify.py data.num_train=100 data.augment.horizontal_flip=true data.augment.max_shift=2
    python scripts/classify.py data.num_train=100 extra=more split=test     # images that scripts/augment.py made

Each step takes data.batch_size training images of `data` and, with `extra`, num_extra images of that folder, too. All
of them vary as `data.augment` says. The number of steps is fixed, and the last weights are measured once. Nothing is
chosen by the images that are measured.
"""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, islice
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from data import Batch, ImageData, ImageFolder, ImageSet, TrainOrder
from data.image_set import Joined
from flows.arguments import choose, require_positive
from flows.training import call, check_class_names, check_config, command_line, pick_device, set_tf32
from flows.training.command.track import track
from flows.training.given import on_device
from flows.training.quality.classifier import ConvClassifier


@command_line("../conf", "classify")
def main(cfg: DictConfig) -> None:
    """Train and measure as the config says."""
    check_config(cfg)
    call(classify, cfg)


def classify(
    *,
    data: ImageData,
    data_root: str,
    extra: str | None,
    num_extra: int,
    split: str,
    num_steps: int,
    learning_rate: float,
    seeds: list[int],
    device: str,
) -> None:
    """Print the accuracy of each seed, their mean and their standard deviation; see conf/classify.yaml."""
    require_positive(num_steps=num_steps, num_extra=num_extra)
    if not seeds or len({*seeds}) < len(seeds):
        raise ValueError(f"seeds is a list of whole numbers that all differ, got {seeds}")
    if data.num_classes is None:
        raise ValueError("data.num_classes is null: give labelled data, and set it to their number of classes")
    place = pick_device(device)
    set_tf32(False)
    data.prepare_data()
    data.setup()
    images = choose("split", {"val": data.val_set, "test": data.test_set}, split)
    more = None if extra is None else read_extra(extra, num_extra, data, f"{data_root}/image_folders")
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        network = ConvClassifier(data.image_shape[0], data.num_classes).to(place)
        fit(network, on_device(batches(data, seed, more, num_extra), place), num_steps, learning_rate)
        found.append(accuracy(network, on_device(data.batches(images), place)))
        print(f"seed {seed}: {split} accuracy {found[-1]:.4f}")
    spread = f" ± {stdev(found):.4f} (standard deviation)" if len(found) > 1 else ""
    of_extra = "" if more is None else f" and {num_extra} of the {len(more):,} images in {extra}"
    print(
        f"{split} accuracy {mean(found):.4f}{spread}: {len(data.train_set):,} training images, {num_steps} steps of "
        f"{data.batch_size} images{of_extra}"
    )


def read_extra(extra: str, num_extra: int, data: ImageData, index_dir: str) -> ImageSet:
    """Return the images of a folder with one subfolder per class, in the sequence of the labels.

    Raises:
        ValueError: if there are not as many subfolders as classes, if images are outside of them, if the subfolders are
            other classes, or if there are fewer images than a batch takes.
    """
    images = ImageFolder(extra, data.train_set.image_shape, index_dir, in_memory=True).load_whole()
    num_folders, num_outside = len(images.class_names or ()), int((images.labels < 0).sum())
    if num_folders != data.num_classes or num_outside:
        raise ValueError(
            f"extra={extra} has {num_folders} subfolders, and {num_outside} images outside of them: give a folder with "
            f"one subfolder for each of the {data.num_classes} classes, as scripts/augment.py writes it"
        )
    check_subfolders(Path(extra), images.class_names or (), data.class_names)
    if num_extra > len(images):
        raise ValueError(
            f"extra={extra} has {len(images)} images, and each batch takes {num_extra}: set num_extra lower"
        )
    return images


def check_subfolders(folder: Path, found: Sequence[str], wanted: Sequence[str] | None) -> None:
    """Check that the subfolders of a folder, in their order, are the classes: by their labels or by their names.

    Raises:
        ValueError: if they are not, or if scripts/augment.py made them for other classes.
    """
    about = folder / "about.json"
    if about.exists():
        try:
            made_for = json.loads(about.read_text(encoding="utf-8"))["class_names"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{about} is damaged: make the images again with scripts/augment.py") from error
        check_class_names(wanted, made_for)
    numbered = all(name.isdecimal() and int(name) == label for label, name in enumerate(found))
    if not numbered and list(found) != list(wanted or ()):
        raise ValueError(
            f"extra={folder} has the subfolders {', '.join(found[:3])}, ...: it is not known which class each of them "
            f"is. Call them by their labels, such as {0:0{len(str(len(found) - 1))}d} for the first class"
        )


def batches(data: ImageData, seed: int, extra: ImageSet | None = None, num_extra: int = 0) -> Iterator[Batch]:
    """Return training batches without end, shuffled and varied, with so many extra images beside those of the data."""
    images = data.train_set
    parts = [rows_without_end(TrainOrder(len(images), data.batch_size, seed))]
    if extra is not None:
        parts.append(rows_without_end(TrainOrder(len(extra), num_extra, seed), first=len(images)))
        images = Joined([images, extra])
    for step, rows in enumerate(zip(*parts, strict=True)):
        yield data.augment(images[[*chain(*rows)]], data.image_shape[1:], seed=seed, step=step)


def rows_without_end(order: TrainOrder, first: int = 0) -> Iterator[list[int]]:
    """Return the rows of each batch of an order, epoch after epoch, counted from `first` on."""
    for epoch in count():
        for rows in order.batches(epoch, range(len(order))):
            yield [row + first for row in rows]


def fit(network: ConvClassifier, batches: Iterator[Batch], num_steps: int, learning_rate: float) -> None:
    """Train a network by AdamW, with a learning rate that rises and falls (Smith & Topin 2017, arXiv:1708.07120).

    Args:
        network: new; it is in evaluation mode afterwards.
        batches: at least `num_steps`.
        num_steps: one for each batch.
        learning_rate: the largest.

    Raises:
        ValueError: if the learning rate is not above 0, or so high that training diverges.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"the learning rate is a number above 0, got {learning_rate}")
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, num_steps)
    told = track(islice(batches, num_steps), "training", num_steps)
    for batch in told:
        loss = F.cross_entropy(network.head(network(batch.images)), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise ValueError(f"training diverged: give a lower learning rate than {learning_rate}")
    network.eval()


@torch.no_grad()
def accuracy(network: ConvClassifier, batches: Iterable[Batch]) -> float:
    """Return the part of the images whose class is recognised correctly."""
    right = [network.classify(network(batch.images)) == batch.labels for batch in batches]
    return torch.cat(right).double().mean().item()


if __name__ == "__main__":
    main()
