"""Generated pictures: fixed, of any shape, and in place of every data set."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from data import Generated, ImageData
from tests.support.run import CONF

DATA = sorted(path.stem for path in (Path(CONF) / "data").glob("*.yaml") if path.stem != "loader")


def test_a_picture_is_a_function_of_its_seed() -> None:
    train, test = Generated((3, 12, 8), num_classes=4).load()
    batch = train[[5, 0, 5]]
    assert batch.images.shape == (3, 3, 12, 8) and batch.images.dtype == torch.uint8
    assert torch.equal(batch.images[0], batch.images[2]) and not torch.equal(batch.images[0], batch.images[1])
    assert batch.labels.tolist() == [1, 0, 1]
    assert not torch.equal(test[[0]].images, train[[0]].images)


def test_pictures_are_smooth() -> None:
    images = Generated((1, 32, 32)).load()[0][[*range(20)]].images.double()
    steps = (images[..., 1:] - images[..., :-1]).pow(2).mean()
    assert steps < 0.1 * images.var()


@pytest.mark.parametrize("name", DATA)
def test_it_stands_in_for_every_data_set(name: str, tmp_path: Path) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", [f"data={name}", "data.source=generated", f"run_dir={tmp_path}"])
    data = instantiate(cfg.data)
    data.prepare_data()
    data.setup()
    assert len(data.train_set) >= data.batch_size and len(data.val_set) and len(data.test_set)
    assert data.initial_batch(3).images.shape == (3, *data.image_shape)


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="source is an object, or generated for pictures made on the spot; got 'gen'"):
        ImageData(source="gen", image_shape=(1, 4, 4))


def test_there_are_as_many_pictures_as_are_asked_for() -> None:
    data = ImageData(source="generated", image_shape=(1, 4, 4), num_val=7, num_train=1500)
    data.setup()
    assert (len(data.train_set), len(data.val_set)) == (1500, 7)
