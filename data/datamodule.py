"""The data module for Lightning: it prepares a source once, splits the images, and serves them in a resumable order."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from data.augment import Augment, CentreCrop
from data.condition import Condition, Conditioned
from data.files.names import shortened
from data.image_set import Batch, ImageSet, Joined, Source, Subset
from data.order import EvalOrder, ResumableLoader, TrainOrder, balanced, split_off
from data.sources.generated import Generated
from data.workers import outlive_signals

logger = logging.getLogger(__name__)

FEW = 1000
"""The number of generated training images, if a batch does not need more."""
MOST_VAL = 500
"""The most training images that are set aside for validation if no number is given."""


def held_out(num_images: int, num_val: int | None) -> int:
    """Return how many training images are set aside for validation: by default a tenth.

    This is for sources without validation images of their own.
    """
    return num_val or max(min(num_images // 10, MOST_VAL), 1)


class ImageData(LightningDataModule):
    """Training, validation and test batches of uint8 images.

    The order is the module's own, so build the trainer with `use_distributed_sampler=False`.

    Args:
        source: where the images come from; "generated" makes pictures of `image_shape` on the spot, as a stand-in.
        image_shape: (C, H, W) that the source must have.
        num_classes: labels must lie between 0 and num_classes - 1. If the classes have names, there must be as many
            names. None if labels are not used.
        batch_size: images per training batch, of all ranks together.
        eval_batch_size: images per evaluation batch, of all ranks together.
        num_val: training images that are set aside for validation. There may be a few more if variants of an image
            belong together. None sets aside a tenth, at most 500. If the source has validation images of its own, all
            of them are used instead. A warning then says that `num_val` does not apply.
        split_seed: chooses the images that are set aside, and those of `num_train`.
        seed: seed of the training order.
        num_workers: number of processes per loader that load batches; 0 loads them in this process.
        pin_memory: whether to put batches into page-locked memory.
        augment: varies the training images. With its `random_crop` the source may have larger images. Evaluation then
            takes the middle of each image.
        condition: makes the condition of a conditional flow from each image, after its variation. None: no condition.
        num_train: training images that are used, of each class as many. The validation and test images stay. A
            smaller number gives a part of the images that a larger one gives. None: all.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    train_set: ImageSet
    val_set: ImageSet
    test_set: ImageSet
    class_names: tuple[str, ...] | None = None
    """The name of each label, known after `setup`; None if labels have no names."""

    def __init__(
        self,
        *,
        source: Source | str,
        image_shape: Sequence[int],
        num_classes: int | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 250,
        num_val: int | None = 5000,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        augment: Augment | None = None,
        condition: Condition | None = None,
        num_train: int | None = None,
    ) -> None:
        super().__init__()
        at_least_one = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
        at_least_one_or_null = {"num_val": num_val, "num_classes": num_classes, "num_train": num_train}
        for name, value in (at_least_one | at_least_one_or_null).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be at least 0, got {num_workers}")
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ValueError(f"image_shape must be (C, H, W), got {tuple(image_shape)}")
        if augment is not None and augment.max_shift >= min(image_shape[1:]):
            raise ValueError(
                f"augment.max_shift must be smaller than the images of {image_shape[1]}x{image_shape[2]} pixels, got "
                f"{augment.max_shift}"
            )
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        num_pictures = max(FEW, batch_size, num_train or 0) + (num_val or MOST_VAL)
        self.source = self._generated(source, num_classes, num_pictures) if isinstance(source, str) else source
        self.augment = augment or Augment()
        self.condition = condition
        self.condition_shape = None if condition is None else condition.shape(self.image_shape)
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_val = num_val
        self.num_train = num_train
        self.split_seed = split_seed
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._train_loader: ResumableLoader | None = None
        self._position = 0

    def _generated(self, name: str, num_classes: int | None, num_pictures: int) -> Source:
        """Return the stand-in for a source that is called by its name."""
        if name != "generated":
            raise ValueError(f"source is an object, or generated for pictures made on the spot; got {name!r}")
        return Generated(self.image_shape, num_classes, num_pictures)

    def prepare_data(self) -> None:
        """Make sure that the files of the source are there, before they are loaded for the first time."""
        if not hasattr(self, "train_set"):
            self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images. Only the first call does something.

        Raises:
            ValueError: if the images or labels are not as declared, or if too few images are left for training.
        """
        if hasattr(self, "train_set"):
            return
        whole, test, *val = self.source.load()
        for images in (whole, test, *val):
            self._check(images)
        self.class_names = whole.class_names
        if val and self.num_val is not None and self._ranks()[0] == 0:
            logger.warning(
                "data.num_val=%d does not apply: %s has validation images of its own (%d), which are taken whole",
                self.num_val,
                type(self.source).__name__,
                len(val[0]),
            )
        rest, held = (whole, val[0]) if val else self._split(whole)
        self.train_set = rest if self.num_train is None else self._few(rest, self.num_train)
        self.val_set = self._for_evaluation(held)
        self.test_set = self._for_evaluation(test)

    def _split(self, whole: ImageSet) -> tuple[ImageSet, ImageSet]:
        """Return the training images and the validation images."""
        num_val = held_out(len(whole), self.num_val)
        if len(whole) - num_val < self.batch_size:
            raise ValueError(
                f"{len(whole)} training images are too few for a num_val of {num_val} and a batch of "
                f"{self.batch_size}: make data.num_val or data.batch_size smaller"
            )
        rest, held = split_off(len(whole), num_val, "validation", self.split_seed, groups=whole.groups)
        if whole.groups is not None and len(rest) < self.batch_size:
            raise ValueError(
                f"the {len(whole)} training images are in few groups ({len(set(whole.groups.tolist()))}), which stay "
                f"together: validation takes {len(held)} images and leaves {len(rest)}, too few for a batch of "
                f"{self.batch_size}; group fewer images together, or make data.num_val or data.batch_size smaller"
            )
        return Subset(whole, rest), Subset(whole, held)

    def _few(self, rest: ImageSet, num_train: int) -> ImageSet:
        """Return some of the training images."""
        if num_train > len(rest):
            raise ValueError(
                f"data.num_train is {num_train}, but only {len(rest)} images are left for training: make it smaller, "
                "or set data.num_train=null for all"
            )
        return Subset(rest, balanced(rest.labels, num_train, "few", self.split_seed))

    def check_shares(self, world_size: int) -> None:
        """Check that so many ranks can share the training batches.

        Raises:
            ValueError: if they cannot.
        """
        TrainOrder(len(self.train_set), self.batch_size, self.seed, 0, world_size)

    def whole(self) -> ImageSet:
        """Return all images of the source as one set, in the form for evaluation, without making any split.

        Raises:
            ValueError: if the images or labels are not as declared.
        """
        if (load_whole := getattr(self.source, "load_whole", None)) is not None:
            images = load_whole()
        else:
            self.source.prepare()
            images = Joined(self.source.load())
        self._check(images)
        self.class_names = images.class_names
        return self._for_evaluation(images)

    def state_dict(self) -> dict[str, Any]:
        """Return how many batches were trained on, and the number of training images.

        Lightning itself restores loaders only in the middle of an epoch.
        """
        loader = self._train_loader
        position = self._position if loader is None else loader.sampler.position
        return {"position": position, "num_images": len(self.train_set)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader continue from the place where `state_dict` was taken.

        Raises:
            ValueError: if the size of the training set has changed since then, because the split would differ, too.
        """
        before = state_dict.get("num_images", len(self.train_set))
        if before != len(self.train_set):
            raise ValueError(
                f"the run has {before} training images, and now there are {len(self.train_set)}, split otherwise: put "
                "back what has changed, the log names images that were left out; or start a new run"
            )
        self._position = state_dict.get("position", 0)

    def train_dataloader(self) -> ResumableLoader:
        """Return batches in training order, from the start or from the place where a resumed run stopped.

        Raises:
            ValueError: if the ranks cannot share a batch equally.
        """
        self._train_loader = ResumableLoader(
            self.train_set,
            sampler=self._train_order(),
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
        )
        self._train_loader.load_state_dict({"position": self._position})
        return self._train_loader

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the validation images in their sequence."""
        return self._shared(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return batches of the test images in their sequence."""
        return self._shared(self.test_set)

    @property
    def sets(self) -> dict[str, ImageSet]:
        """The images of the splits "train", "val" and "test", in the form for evaluation."""
        return {"train": self._for_evaluation(self.train_set), "val": self.val_set, "test": self.test_set}

    def batches(self, images: ImageSet, rank: int = 0, world_size: int = 1) -> DataLoader[Batch]:
        """Return the batches of a set in their sequence. Several ranks get whole batches in turn."""
        return self._eval_loader(images, [*EvalOrder(len(images), self.eval_batch_size)][rank::world_size])

    def initial_batch(self, size: int) -> Batch:
        """Return the first `size` images in training order, for the initialisation of a model.

        If there are fewer images, return all. The images are the same on all ranks.

        Raises:
            ValueError: if size is below 1.
        """
        if size < 1:
            raise ValueError(f"The initial batch takes at least 1 image, got {size}")
        first = torch.arange(min(size, len(self.train_set)))
        return self._augmented(self.train_set[self._train_order().epoch(0)[first].tolist()], step=0)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Vary the images of a training batch, on the device of the batch, and make their conditions."""
        assert self.trainer is not None
        return self._augmented(batch, self.trainer.global_step) if self.trainer.training else batch

    def _augmented(self, batch: Batch, step: int) -> Batch:
        batch = self.augment(batch, self.image_shape[1:], seed=self.seed, step=step)
        return batch if self.condition is None else batch._replace(condition=self.condition(batch.images))

    def _for_evaluation(self, images: ImageSet) -> ImageSet:
        if images.image_shape != self.image_shape:
            images = CentreCrop(images, self.image_shape[1:])
        return images if self.condition is None else Conditioned(images, self.condition)

    def _check(self, images: ImageSet) -> None:
        name, shape = type(self.source).__name__, images.image_shape
        larger = all(have >= want for have, want in zip(shape, self.image_shape, strict=True))
        if shape != self.image_shape and not (self.augment.random_crop and larger and shape[0] == self.image_shape[0]):
            raise ValueError(
                f"data.image_shape is {self.image_shape}, but {name} has images of {shape} (C, H, W): set "
                "data.image_shape to that"
            )
        if self.num_classes is None:
            return
        unlabelled = int((images.labels < 0).sum())
        if unlabelled:
            raise ValueError(
                f"data.num_classes is {self.num_classes}, but {unlabelled} of {len(images)} images of {name} have no "
                "label: put the images of a folder into subfolders, one per class, or set data.num_classes=null"
            )
        names = images.class_names
        if names is not None and len(names) != self.num_classes:
            raise ValueError(
                f"data.num_classes is {self.num_classes}, but {name} has {len(names)} classes ({shortened(names)}): "
                f"set data.num_classes={len(names)}, or null"
            )
        if images.labels.max() >= self.num_classes:
            raise ValueError(
                f"data.num_classes is {self.num_classes}, but {name} has labels from {int(images.labels.min())} to "
                f"{int(images.labels.max())}: set data.num_classes={int(images.labels.max()) + 1}, or null"
            )

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _train_order(self) -> TrainOrder:
        return TrainOrder(len(self.train_set), self.batch_size, self.seed, *self._ranks())

    def _shared(self, images: ImageSet) -> DataLoader[Batch]:
        """Return the part of each batch for this rank, in the form that a trainer needs."""
        return self._eval_loader(images, EvalOrder(len(images), self.eval_batch_size, *self._ranks()))

    def _eval_loader(self, images: ImageSet, order: Iterable[list[int]]) -> DataLoader[Batch]:
        return DataLoader(
            images,
            sampler=order,
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=outlive_signals,
            pin_memory=self.pin_memory,
            persistent_workers=self.num_workers > 0,
        )
