"""Features: the frozen ones, those of Inception, and what they refuse."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from torchvision import datasets

from data import Digits, ImageData
from data.sources.mnist import NAMES
from flows.training import FashionMNISTFeatures, InceptionFeatures
from flows.training.quality.features import FROZEN, Classifier, Features, classifier_of
from tests.support.command_line import ROOT
from tests.support.features import Projected, random_inception


def test_the_frozen_weights_are_those_of_the_docs() -> None:
    digest = hashlib.sha256(FROZEN.read_bytes()).hexdigest()
    (told,) = re.findall(r"\b[0-9a-f]{64}\b", (ROOT / "docs/quality.md").read_text())
    assert digest == told
    assert FROZEN.stat().st_size <= 500_000


def test_features_of_an_image_do_not_depend_on_the_others() -> None:
    features = FashionMNISTFeatures()
    assert isinstance(features, Features) and isinstance(features, Classifier)
    images = torch.randint(0, 256, (5, 1, 28, 28), dtype=torch.uint8)
    together = features(images)
    assert together.shape == (5, 64)
    torch.testing.assert_close(together[2:3], features(images[2:3]))
    assert features.classify(together).shape == (5,)
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_features_tell_the_classes_that_have_their_names() -> None:
    clothes = FashionMNISTFeatures(weights=None)
    data = ImageData(source=Digits(), image_shape=(1, 28, 28), num_classes=10)
    for names, told in (tuple(datasets.FashionMNIST.classes), True), (NAMES, False), (None, False):
        data.class_names = names
        assert (classifier_of(clothes, data) is clothes) is told
        assert (classifier_of(Projected(class_names=NAMES), data) is None) is (names != NAMES)
        assert classifier_of(unnamed := Projected(), data) is unnamed
    for other in (None, 9):
        data.num_classes = other
        assert classifier_of(Projected(), data) is None


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 28, 28)])
def test_images_of_other_shapes_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"read images of \(1, 28, 28\).* other features"):
        FashionMNISTFeatures().check(shape)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_inception(tmp_path_factory.mktemp("inception") / "weights.pth")


@pytest.mark.slow
def test_inception_reads_colour_images_of_any_size(inception_weights: Path) -> None:
    features = InceptionFeatures(str(inception_weights))
    features.check((3, 32, 32))
    found = features(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    assert found.shape == (2, 2048) and found.isfinite().all() and not torch.equal(found[0], found[1])
    with pytest.raises(ValueError, match="images in colour, and these have 1 channels"):
        features.check((1, 28, 28))


def test_weights_that_cannot_be_fetched_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("<urlopen error no route>")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", unreachable)
    with pytest.raises(FileNotFoundError, match=r"no route.*fetch https://\S+\.pth .*features\.weights=PATH"):
        InceptionFeatures()


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pth.*features\.weights=PATH"):
        InceptionFeatures(str(tmp_path / "none.pth"))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not hold Inception's weights"):
        InceptionFeatures(str(tmp_path / "other.pth"))
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ValueError, match=r"text\.pth does not hold Inception's weights"):
        InceptionFeatures(str(tmp_path / "text.pth"))
