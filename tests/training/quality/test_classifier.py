"""The small classifier: any number of channels and classes, and an image at a time."""

import pytest
import torch

from flows.training.quality.classifier import ConvClassifier
from flows.training.quality.features import Classifier


@pytest.mark.parametrize(("shape", "num_classes"), [((1, 8, 8), 3), ((3, 32, 32), 100)])
def test_the_class_of_an_image_does_not_depend_on_the_others(shape: tuple[int, int, int], num_classes: int) -> None:
    torch.manual_seed(0)
    network = ConvClassifier(shape[0], num_classes).eval()
    assert isinstance(network, Classifier) and network.num_classes == num_classes
    images = torch.randint(0, 256, (5, *shape), dtype=torch.uint8)
    together = network(images)
    torch.testing.assert_close(network(images[2:3]), together[2:3])
    assert together.shape == (5, 64) and (together >= 0).all()
    classes = network.classify(together)
    assert torch.equal(classes, network.head(together).argmax(1)) and 0 <= classes.min() <= classes.max() < num_classes
