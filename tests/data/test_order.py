"""The order of the images: each at most once an epoch, shared by the ranks, and resumed with the next batch."""

from itertools import chain, islice
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from data import Batch, Digits, EvalOrder, ImageData, ResumableLoader, TensorImages, TrainOrder
from data.order import balanced


def served(order: TrainOrder, epochs: int = 1) -> list[list[int]]:
    batches = []
    for _ in range(epochs):
        batches += list(order)
        order.position += len(order)
    return batches


def loader(num_workers: int = 0) -> ResumableLoader:
    images = TensorImages(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1))
    return ResumableLoader(
        images,
        sampler=TrainOrder(50, 8, seed=3),
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )


def test_an_epoch_serves_each_image_at_most_once_in_whole_batches() -> None:
    batches = served(TrainOrder(50, 8, seed=0))
    assert [len(rows) for rows in batches] == [8] * 6
    assert len(set(chain(*batches))) == 48


def test_the_order_depends_on_the_seed_and_the_epoch_alone() -> None:
    torch.manual_seed(1)
    once = served(TrainOrder(50, 8, seed=0), epochs=2)
    torch.manual_seed(2)
    assert once == served(TrainOrder(50, 8, seed=0), epochs=2)
    assert once[:6] != once[6:]
    assert once[6:] != served(TrainOrder(50, 8, seed=1))
    assert once[:6] != served(TrainOrder(50, 8, seed=1))


def test_iterating_leaves_the_position_alone() -> None:
    order = TrainOrder(50, 8, seed=0)
    assert list(order) == list(order)
    assert order.position == 0


@pytest.mark.parametrize("position", [0, 4, 6, 9])
def test_an_iteration_starts_at_the_position_and_crosses_into_the_next_epoch(position: int) -> None:
    order = TrainOrder(50, 8, seed=0)
    order.position = position
    assert list(order) == served(TrainOrder(50, 8, seed=0), epochs=3)[position : position + 6]


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_ranks_share_each_batch_of_one_process(world_size: int) -> None:
    whole = served(TrainOrder(50, 8, seed=0), epochs=2)
    shares = [served(TrainOrder(50, 8, 0, rank, world_size), epochs=2) for rank in range(world_size)]
    for batch, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert list(chain(*zip(*parts, strict=True))) == batch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 5, "batch_size": 6}, "between 1 and 5"),
        ({"num_images": 5, "batch_size": 0}, "between 1 and 5"),
        ({"num_images": 50, "batch_size": 10, "world_size": 4}, "use 8 or 12"),
        ({"num_images": 50, "batch_size": 3, "world_size": 4}, "use 4"),
    ],
)
def test_batches_that_cannot_be_served_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainOrder(**arguments, seed=0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_loader_goes_on_with_the_next_batch(num_workers: int) -> None:
    expected = served(TrainOrder(50, 8, seed=3), epochs=3)
    first = loader(num_workers)
    before = [batch.index.tolist() for batch in islice(first, 4)]
    state = first.state_dict()
    assert state == {"position": 4}
    again = loader(num_workers)
    again.load_state_dict(state)
    after = [batch.index.tolist() for batch in again]
    after += [batch.index.tolist() for batch in again]
    assert before + after == expected[:16]
    assert again.state_dict() == {"position": 16}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_abandoned_iteration_leaves_nothing_behind(num_workers: int) -> None:
    expected = served(TrainOrder(50, 8, seed=3), epochs=2)
    images = loader(num_workers)
    rows = [batch.index.tolist() for batch in islice(images, 2)]
    rows += [batch.index.tolist() for batch in images]
    assert rows == expected[:8]


@pytest.mark.parametrize(("num_images", "world_size"), [(50, 1), (50, 2), (51, 2), (50, 4), (3, 4)])
def test_evaluation_covers_each_image_with_equally_many_batches(num_images: int, world_size: int) -> None:
    ranks = [EvalOrder(num_images, 10, rank, world_size) for rank in range(world_size)]
    batches = [list(order) for order in ranks]
    assert {len(rows) for rows in batches} == {len(order) for order in ranks} == {len(ranks[0])}
    rows = list(chain(*chain(*batches)))
    assert set(rows) == set(range(num_images))
    assert len(rows) - num_images < world_size


def test_evaluation_is_sequential_and_batches_count_all_ranks() -> None:
    assert list(EvalOrder(7, 4)) == [[0, 1, 2, 3], [4, 5, 6]]
    assert list(EvalOrder(7, 4, rank=1, world_size=2)) == [[1, 3], [5, 0]]


@pytest.mark.parametrize(("num_images", "batch_size"), [(0, 4), (4, 0)])
def test_evaluation_of_nothing_is_refused(num_images: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EvalOrder(num_images, batch_size)


class Recorder(LightningModule):
    """Trains nothing, writes down which images it was given and saves after every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.rows: list[list[int]] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.rows.append(batch.index.tolist())
        return self.weight.sum()

    def on_train_batch_end(self, *_: object) -> None:
        self.trainer.save_checkpoint(self.folder / f"{self.global_step}.ckpt")

    def validation_step(self, batch: Batch) -> None:
        assert batch.images.dtype == torch.uint8

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters())


def fit(folder: Path, num_workers: int, resume_from: Path | None = None) -> list[list[int]]:
    recorder = Recorder(folder)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=10,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    images = ImageData(source=Digits(), image_shape=(1, 8, 8), batch_size=256, num_val=300, num_workers=num_workers)
    trainer.fit(recorder, datamodule=images, ckpt_path=resume_from)
    return recorder.rows


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lightning_resumes_with_the_next_batch(tmp_path: Path, num_workers: int) -> None:
    whole = fit(tmp_path, num_workers)
    assert len({tuple(rows) for rows in whole}) == 10
    for step in (2, 4, 6):
        assert fit(tmp_path, num_workers, tmp_path / f"{step}.ckpt") == whole[step:]


def test_balanced_rows_are_as_many_of_each_label_while_it_has_enough() -> None:
    labels = torch.tensor([3] * 4 + [0] * 60 + [7] * 36)[torch.randperm(100)]
    for count in (3, 12, 24, 76, 100):
        rows = balanced(labels, count, "few", 0)
        assert len(rows.unique()) == count and torch.equal(rows, rows.sort().values)
        found = labels[rows].bincount(minlength=8)[[0, 3, 7]].tolist()
        rare = min(4, count // 3)
        middle = min(36, (count - rare) // 2)
        assert found == [count - rare - middle, rare, middle]


def test_balanced_rows_depend_on_the_key_and_those_of_fewer_are_among_those_of_more() -> None:
    labels = torch.arange(100) % 7
    rows = balanced(labels, 20, "few", 0).tolist()
    assert rows == balanced(labels, 20, "few", 0).tolist() != balanced(labels, 20, "few", 1).tolist()
    assert {*rows} < {*balanced(labels, 33, "few", 0).tolist()}
    assert len(balanced(torch.full((50,), -1), 9, "few").unique()) == 9
