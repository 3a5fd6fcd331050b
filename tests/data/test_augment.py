"""Augmentation: exact mirrors, shifts and windows, the same for an image whatever its batch."""

from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from data import Augment, Batch, Digits, ImageData
from data.augment import CentreCrop
from data.image_set import TensorImages

IMAGES = torch.randint(0, 256, (400, 2, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.zeros(400), torch.arange(400))
ALL = Augment(horizontal_flip=True, max_shift=2, random_crop=True)


def test_nothing_changes_by_default() -> None:
    assert Augment()(BATCH, (6, 8), seed=0, step=0) is BATCH


def test_half_of_the_images_are_mirrored() -> None:
    images = Augment(horizontal_flip=True)(BATCH, (6, 8), seed=0, step=0).images
    same, mirrored = ((images == other).flatten(1).all(1) for other in (IMAGES, IMAGES.flip(3)))
    assert (same ^ mirrored).all() and 160 < mirrored.sum() < 240


def test_shifts_are_uniform_and_repeat_the_edge() -> None:
    images = Augment(max_shift=1)(BATCH, (6, 8), seed=0, step=0).images
    padded = torch.nn.functional.pad(IMAGES.float(), (1, 1, 1, 1), mode="replicate").byte()
    windows = [padded[:, :, top : top + 6, left : left + 8] for top in range(3) for left in range(3)]
    found = torch.stack([(images == window).flatten(1).all(1) for window in windows])
    assert found.any(0).all()
    assert (found.sum(1) > 25).all() and (found.sum(1) < 65).all()


def test_windows_are_cut_at_random_places() -> None:
    images = Augment(random_crop=True)(BATCH, (5, 7), seed=0, step=0).images
    windows = [IMAGES[:, :, top : top + 5, left : left + 7] for top in range(2) for left in range(2)]
    found = torch.stack([(images == window).flatten(1).all(1) for window in windows])
    assert found.any(0).all() and (found.sum(1) > 70).all()


def test_an_image_varies_by_seed_and_step_and_not_by_its_batch() -> None:
    whole = ALL(BATCH, (4, 4), seed=0, step=3).images
    rows = torch.tensor([7, 3, 300])
    some = Batch(IMAGES[rows], rows, rows)
    assert torch.equal(ALL(some, (4, 4), seed=0, step=3).images, whole[rows])
    for other in ({"seed": 1, "step": 3}, {"seed": 0, "step": 4}):
        assert not torch.equal(ALL(BATCH, (4, 4), **other).images, whole)


def test_evaluation_takes_the_middle() -> None:
    cropped = CentreCrop(TensorImages(IMAGES), (2, 4))
    assert cropped.image_shape == (2, 2, 4) and len(cropped) == 400
    assert torch.equal(cropped[[1]].images[0], IMAGES[1, :, 2:4, 2:6])


def test_a_negative_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="max_shift must be at least 0, got -1"):
        Augment(max_shift=-1)


class Recorder(LightningModule):
    """Trains nothing and keeps the images it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_images: list[Tensor] = []
        self.val_images: list[Tensor] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.train_images.append(batch.images)
        return self.weight.sum()

    def validation_step(self, batch: Batch) -> None:
        self.val_images.append(batch.images)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


def fit(steps: int, resume_from: Path | None = None, save_to: Path | None = None) -> tuple[Recorder, ImageData]:
    images = ImageData(source=Digits(), image_shape=(1, 6, 6), batch_size=256, num_val=300, augment=ALL)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    recorder = Recorder()
    trainer.fit(recorder, datamodule=images, ckpt_path=resume_from)
    if save_to:
        trainer.save_checkpoint(save_to)
    return recorder, images


def test_training_images_vary_and_evaluation_takes_the_middle_of_each(tmp_path: Path) -> None:
    recorder, images = fit(6)
    assert torch.equal(recorder.train_images[0], images.initial_batch(256).images)
    middle = images.val_set[list(range(300))].images
    assert torch.equal(torch.cat(recorder.val_images)[-300:], middle)
    assert middle.shape == (300, 1, 6, 6)

    first, _ = fit(2, save_to=tmp_path / "a.ckpt")
    second, _ = fit(6, resume_from=tmp_path / "a.ckpt")
    assert torch.equal(torch.cat(first.train_images + second.train_images), torch.cat(recorder.train_images))


def test_a_part_of_the_values_is_redrawn_uniformly() -> None:
    black = BATCH._replace(images=torch.zeros(400, 2, 6, 8, dtype=torch.uint8))
    redraw = Augment(redraw=0.3)
    images = redraw(black, (6, 8), seed=0, step=5).images
    changed = images > 0
    assert abs(changed.double().mean() - 0.3 * 255 / 256) < 0.01
    assert abs(images[changed].double().mean() - 128) < 2 and images.max() == 255
    some = Batch(black.images[7:9], torch.zeros(2), torch.arange(7, 9))
    assert torch.equal(redraw(some, (6, 8), seed=0, step=5).images, images[7:9])
    assert not torch.equal(redraw(black, (6, 8), seed=0, step=6).images, images)
    with pytest.raises(ValueError, match=r"redraw is a part, from 0 to 1, got 1\.5"):
        Augment(redraw=1.5)
