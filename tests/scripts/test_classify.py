"""scripts/classify.py: what a classifier is trained on, what it is measured on, and what is refused."""

import json
import re
from itertools import islice
from pathlib import Path
from statistics import mean, stdev

import pytest
import torch
from hydra import compose, initialize_config_dir

from data import Augment, Digits, ImageData, ImageSet, Subset
from flows.training import save_png
from scripts import classify
from scripts.classify import batches
from tests.support.run import CONF


def digits(**settings: object) -> ImageData:
    data = ImageData(source=Digits(), image_shape=(1, 8, 8), num_classes=10, num_val=200, batch_size=20, **settings)
    data.setup()
    return data


def write(images: ImageSet, folder: Path) -> None:
    """Write images as scripts/augment.py does."""
    for row in range(len(images)):
        batch = images[[row]]
        save_png(batch.images[0], folder / str(batch.labels.item()) / f"{row}.png")


def run(folder: Path, *overrides: str) -> None:
    told = ["data=digits", f"data_root={folder}/datasets", "data.num_train=20", "data.batch_size=20", "num_steps=40"]
    told += ["num_extra=10"]
    with initialize_config_dir(CONF, version_base="1.3"):
        classify.main(compose("classify", [*told, *overrides]))


def accuracies(printed: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in printed.splitlines() if line.startswith("seed ")]


def test_without_extra_images_the_order_and_the_changes_are_those_of_the_data() -> None:
    data = digits(augment=Augment(max_shift=1), num_train=70)
    loader = data.train_dataloader()
    expected = [*loader, *loader]
    found = islice(batches(data, seed=0), len(expected))
    for step, (batch, plain) in enumerate(zip(found, expected, strict=True)):
        assert torch.equal(batch.images, data.augment(plain, (8, 8), seed=0, step=step).images)
        assert torch.equal(batch.labels, plain.labels) and not torch.equal(batch.images, plain.images)


def test_each_batch_has_extra_images_beside_its_own_and_an_epoch_has_each_image_once() -> None:
    data, extra = digits(num_train=60), digits().test_set
    found = [*islice(batches(data, 3, extra, num_extra=5), 6)]
    for start in (0, 3):
        rows = torch.cat([batch.index for batch in found[start : start + 3]])
        assert rows[rows < 60].sort().values.tolist() == [*range(60)]
        assert all((batch.index >= 60).sum() == 5 for batch in found)
    batch = found[0]
    real, more = batch.index < 60, batch.index >= 60
    assert torch.equal(batch.images[real], data.train_set[batch.index[real].tolist()].images)
    assert torch.equal(batch.images[more], extra[(batch.index[more] - 60).tolist()].images)
    assert torch.equal(batch.labels[more], extra.labels[batch.index[more] - 60])


def test_more_images_of_the_same_kind_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, whole = digits(num_train=20), digits()
    write(Subset(whole.train_set, torch.arange(400)), tmp_path / "more")
    assert len(few.train_set) == 20
    run(tmp_path)
    alone = capsys.readouterr().out
    run(tmp_path, f"extra={tmp_path}/more")
    together = capsys.readouterr().out
    assert mean(accuracies(together)) > mean(accuracies(alone)) + 0.05
    assert "val accuracy" in alone and "20 training images, 40 steps of 20 images\n" in alone
    assert f"40 steps of 20 images and 10 of the 400 images in {tmp_path}/more" in together


def test_a_seed_gives_the_same_accuracy_and_the_last_line_has_mean_and_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "seeds=[2,7,1]", "num_steps=10", "split=test")
    printed = capsys.readouterr().out
    found = accuracies(printed)
    last = re.match(r"test accuracy (\S+) ± (\S+) \(standard deviation\)", printed.splitlines()[-1])
    assert last is not None
    assert [float(one) for one in last.groups()] == pytest.approx([mean(found), stdev(found)], abs=1e-4)
    run(tmp_path, "seeds=[7]", "num_steps=10", "split=test")
    alone = capsys.readouterr().out
    assert accuracies(alone) == found[1:2] and "±" not in alone
    run(tmp_path, "seeds=[7]", "num_steps=10")
    assert accuracies(capsys.readouterr().out) != found[1:2]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["extra={}/nine"], r"extra=.*nine has 9 subfolders, and 0 images .* for each of the 10 classes, as scripts/"),
        (["extra={}/flat"], r"extra=.*flat has 0 subfolders, and 8 images outside of them"),
        (["extra={}/missing"], "there is no folder .*missing"),
        (["extra={}/few", "num_extra=13"], "extra=.*few has 12 images, and each batch takes 13: set num_extra lower"),
        (["extra={}/named"], "named has the subfolders 0, 1, 2, .*: it is not known which class .* such as 0 for"),
        (["extra={}/other"], "the model knows the classes .*, but those of the data are a, b, c"),
        (["extra={}/damaged"], r"damaged/about\.json is damaged: make the images again with scripts/augment\.py"),
        (["learning_rate=0"], "the learning rate is a number above 0, got 0"),
        (["learning_rate=-0.005"], "the learning rate is a number above 0, got -0.005"),
        (["learning_rate=nan"], "the learning rate is a number above 0, got nan"),
        (["learning_rate=1e30", "num_steps=3"], "training diverged: give a lower learning rate than 1e"),
        (["num_extra=0"], "num_extra is a whole number of at least 1"),
        (["seeds=[]"], r"seeds is a list of whole numbers that all differ, got \[\]"),
        (["seeds=[1,1]"], "all differ"),
        (["num_steps=0"], "num_steps is a whole number of at least 1"),
        (["split=train"], "split is one of val, test; got 'train'"),
        (["data.num_classes=null"], "give labelled data"),
        (["data.num_train=10"], "batch_size must lie between 1 and 10"),
    ],
    ids=str,
)
def test_wrong_use_is_named(tmp_path: Path, overrides: list[str], says: str) -> None:
    test_set = digits().test_set
    write(Subset(test_set, torch.arange(60)[test_set.labels[:60] > 0]), tmp_path / "nine")
    write(Subset(test_set, torch.arange(12)), tmp_path / "few")
    for label in range(10):
        (tmp_path / f"few/{label}").mkdir(exist_ok=True)
    for name in ("named", "other", "damaged"):
        write(Subset(test_set, torch.arange(60)), tmp_path / name)
    (tmp_path / "named/3").rename(tmp_path / "named/ten")
    (tmp_path / "other/about.json").write_text(json.dumps({"class_names": [*"abcdefghij"]}))
    (tmp_path / "damaged/about.json").write_text("")
    for row in range(8):
        save_png(test_set[[row]].images[0], tmp_path / f"flat/{row}.png")
    with pytest.raises((ValueError, OSError), match=says):
        run(tmp_path, *(override.format(tmp_path) for override in overrides))
