"""scripts/train_features.py: it learns, and writes what `FashionMNISTFeatures` loads."""

from pathlib import Path

import pytest
import torch

from data import FashionMNIST, TensorImages
from flows.training import FashionMNISTFeatures
from scripts import train_features


def blobs(num_images: int) -> TensorImages:
    """Return noisy images of ten classes: a square in the middle is the brighter the higher the class."""
    labels = torch.arange(num_images) % 10
    images = torch.randint(0, 20, (num_images, 1, 28, 28), dtype=torch.uint8)
    images[:, :, 8:20, 8:20] += (23 * labels[:, None, None, None]).to(torch.uint8)
    return TensorImages(images, labels)


@pytest.mark.slow
def test_it_learns_and_its_file_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FashionMNIST, "prepare", lambda self: None)
    monkeypatch.setattr(FashionMNIST, "load", lambda self: (blobs(8000), blobs(200)))
    out = tmp_path / "made/features.safetensors"
    train_features.main([str(out), "--data-root", str(tmp_path), "--epochs", "3"])
    printed = capsys.readouterr().out
    accuracy = float(printed.split("test accuracy ")[1])
    assert accuracy > 0.3 and "validation accuracy" in printed
    features, test = FashionMNISTFeatures(str(out)), blobs(200)
    told = features.classify(features(test.images))
    assert (told == test.labels).double().mean().item() == pytest.approx(accuracy, abs=0.1)


def test_what_cannot_be_written_or_trained_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train_features, "train", pytest.fail)
    (tmp_path / "old.safetensors").write_text("kept")
    for arguments, says in (
        (["old.safetensors"], "holds a result already"),
        (["features.pt"], "would hold"),
        (["new.safetensors", "--epochs", "0"], "epochs is a whole number of at least 1"),
        (["old.safetensors/new.safetensors"], "old.safetensors"),
    ):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match=f"error: .*{says}"):
            train_features.main(arguments)
    assert (tmp_path / "old.safetensors").read_text() == "kept"
