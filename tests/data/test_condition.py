"""Conditions: box means that follow the images through augmentation, cropping, loading and splitting."""

import pytest
import torch
from lightning import LightningModule, Trainer

from data import Augment, Batch, Changed, Digits, Downsample, ImageData, TensorImages

IMAGES = torch.randint(0, 256, (60, 2, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Images:
    """A source of random images."""

    def prepare(self) -> None:
        pass

    def load(self) -> tuple[TensorImages, TensorImages]:
        return TensorImages(IMAGES[:40]), TensorImages(IMAGES[40:])


def test_means_are_rounded_to_the_nearest_grey_level() -> None:
    small = Downsample(2)(IMAGES)
    assert small.dtype == torch.uint8 and small.shape == (60, 2, 3, 4) == (60, *Downsample(2).shape((2, 6, 8)))
    means = torch.nn.functional.avg_pool2d(IMAGES.double(), 2)
    assert torch.equal(small, (means + 0.5).floor().to(torch.uint8))
    assert torch.equal(Downsample(1)(IMAGES), IMAGES)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_the_mean_of_one_grey_level_is_that_level(level: int) -> None:
    image = torch.full((1, 1, 4, 4), level, dtype=torch.uint8)
    assert torch.equal(Downsample(4)(image), image[:, :, :1, :1])


def test_boxes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="6x8 pixels cannot be cut into boxes of 4x4"):
        ImageData(source=Images(), image_shape=(2, 6, 8), condition=Downsample(4))
    with pytest.raises(ValueError, match="at least 1"):
        Downsample(0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluation_gives_the_condition_of_every_image(num_workers: int) -> None:
    data = ImageData(
        source=Images(),
        image_shape=(2, 4, 6),
        batch_size=4,
        num_val=10,
        num_workers=num_workers,
        augment=Augment(random_crop=True),
        condition=Downsample(2),
    )
    assert data.condition_shape == (2, 2, 3)
    data.setup()
    loaders = [data.val_dataloader(), data.test_dataloader(), data.batches(data.sets["train"])]
    batches = [batch for loader in loaders for batch in loader]
    assert sum(len(batch.images) for batch in batches) == 60
    for batch in batches:
        assert torch.equal(batch.condition, Downsample(2)(batch.images))


class Conditions(LightningModule):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Batch] = []

    def training_step(self, batch: Batch) -> None:
        self.seen.append(batch)

    def validation_step(self, batch: Batch) -> None:
        self.seen.append(batch)

    def configure_optimizers(self) -> None:
        pass


@pytest.mark.filterwarnings("ignore:.*returned `None`")
def test_a_run_sees_the_condition_of_each_image_as_it_was_varied() -> None:
    data = ImageData(
        source=Images(),
        image_shape=(2, 6, 8),
        batch_size=10,
        num_val=10,
        augment=Augment(horizontal_flip=True, max_shift=2),
        condition=Downsample(2),
    )
    module = Conditions()
    Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    ).fit(module, data)
    assert len(module.seen) == 2 * (3 + 1)
    for batch in [*module.seen, data.initial_batch(8)]:
        assert batch.condition is not None and torch.equal(batch.condition, Downsample(2)(batch.images))


def test_without_a_condition_batches_have_none() -> None:
    data = ImageData(source=Images(), image_shape=(2, 6, 8), batch_size=4, num_val=10)
    data.setup()
    assert data.condition_shape is None
    assert next(iter(data.val_dataloader())).condition is None and data.initial_batch(3).condition is None


def test_a_source_of_smaller_images_has_the_same_labels_and_the_means_of_the_same_images() -> None:
    pytest.importorskip("sklearn")
    whole, small = Digits(), Changed(Digits(), Downsample(4))
    small.prepare()
    for images, smaller in zip(whole.load(), small.load(), strict=True):
        assert smaller.image_shape == (1, 2, 2) and torch.equal(smaller.labels, images.labels)
        rows = [3, 0, 17]
        assert torch.equal(smaller[rows].images, Downsample(4)(images[rows].images))
        assert smaller.class_names == images.class_names
