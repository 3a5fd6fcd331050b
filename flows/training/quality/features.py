"""Features of images, in which sets of images are compared."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flows.fingerprint import fingerprint
from flows.training.quality.classifier import ConvClassifier
from flows.training.quality.distances import check_installed

if TYPE_CHECKING:  # at run time, `data` may be a package of the user
    from data import ImageData

FROZEN = Path(__file__).parent / "fashion_mnist.safetensors"
"""Weights of `FashionMNISTFeatures`. They never change, so that old and new distances can be compared."""


@runtime_checkable
class Features(Protocol):
    """A module that turns images into vectors; your own module may also have a method `classify`."""

    distance: str
    """Name of the Frechet distance in these features: "FID" only for features of Inception, "FD" for all others."""
    num_features: int
    """F."""

    def check(self, image_shape: Sequence[int]) -> None:
        """Raise ValueError unless images of (C, H, W) can be read."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images `(B, C, H, W)`: `(B, F)`."""


@runtime_checkable
class Classifier(Protocol):
    """Features that can also tell classes; `class_names`, if they have it, says which ones."""

    num_classes: int

    def classify(self, features: Tensor) -> Tensor:
        """Return the most likely class for features `(B, F)`: int64 `(B,)`."""


def ready(features: Features, device: torch.device) -> Features:
    """Return features on a device; a module is set to evaluation, so that no image changes the features of another."""
    return features.to(device).eval() if isinstance(features, nn.Module) else features


def described_by(features: Features, images: Tensor) -> Tensor:
    """Return the features of images `(B, C, H, W)` on the CPU: `(B, F)`.

    Raises:
        ValueError: if they have another shape.
    """
    found, wanted = features(images), (len(images), features.num_features)
    if tuple(found.shape) != wanted:
        raise ValueError(
            f"{type(features).__name__} says that it has num_features={features.num_features}, so for {len(images)} "
            f"images it must return {wanted}, got {tuple(found.shape)}"
        )
    return found.cpu()


def describe_features(features: Features) -> str:
    """Return a name of features: their class, and a checksum of their weights."""
    name = type(features).__name__
    return f"{name} (weights {fingerprint(features)})" if isinstance(features, nn.Module) else name


def classifier_of(features: Features, data: ImageData) -> Classifier | None:
    """Return the features if they tell the classes of data that are set up, else None.

    Features with `class_names` tell the classes of these names; others tell the classes of any data with as many.
    """
    if not isinstance(features, Classifier) or features.num_classes != data.num_classes:
        return None
    known = getattr(features, "class_names", None)
    return features if known is None or list(known) == list(data.class_names or ()) else None


class FashionMNISTFeatures(ConvClassifier):
    """The last layer before the logits of a small classifier of Fashion-MNIST, made by `scripts/train_features.py`.

    Args:
        weights: the file to load, by default the one that comes with the project; None for a network to be trained.
    """

    distance = "FD"
    class_names = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )

    def __init__(self, weights: str | Path | None = FROZEN) -> None:
        super().__init__(channels=1, num_classes=10)
        if weights is not None:
            self.load_state_dict(load_file(weights))
            self.eval().requires_grad_(False)

    def check(self, image_shape: Sequence[int]) -> None:
        """Raise ValueError unless images have the shape of Fashion-MNIST.

        Raises:
            ValueError: if not.
        """
        if tuple(image_shape) != (1, 28, 28):
            raise ValueError(
                f"the features of Fashion-MNIST read images of (1, 28, 28) (C, H, W), got {tuple(image_shape)}: give "
                "other features, such as those of Inception for images in colour (docs/quality.md says how)"
            )


class InceptionFeatures(nn.Module):
    """The 2,048 features of FID (Heusel et al. 2017), by torch-fidelity: Inception v3 with the weights of the paper.

    Args:
        weights: a file of these weights; None fetches them from the web at the first use.

    Raises:
        ModuleNotFoundError: if torch-fidelity is not installed.
        FileNotFoundError: if the weights cannot be fetched; the message says which file to put where.
        ValueError: if the file holds other weights.
    """

    distance = "FID"
    num_features = 2048

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        check_installed("torch_fidelity")
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

        told = None if weights is None else str(Path(weights).expanduser())
        try:
            self.inception = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], told)
        except OSError as error:
            raise FileNotFoundError(
                f"the weights of Inception cannot be read ({' '.join(str(error).split())}): fetch {URL_INCEPTION_V3} "
                "on a machine that reaches it, and name the file by features.weights=PATH (callbacks.quality."
                "features.weights=PATH in training)"
            ) from error
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError) as error:
            reason = str(error).split("\n")[0]
            file = weights or Path(torch.hub.get_dir()) / "checkpoints" / Path(URL_INCEPTION_V3).name
            to_do = f"fetch {URL_INCEPTION_V3}" if weights else "remove it, and it is fetched again"
            raise ValueError(f"{file} does not hold Inception's weights ({reason}): {to_do}") from error

    def check(self, image_shape: Sequence[int]) -> None:
        """Raise ValueError unless images are in colour.

        Raises:
            ValueError: if not.
        """
        if image_shape[0] != 3:
            raise ValueError(
                f"Inception reads images in colour, and these have {image_shape[0]} channels: give other "
                "features, such as those of Fashion-MNIST for grey images of 28x28 (docs/quality.md says how)"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images `(B, 3, H, W)`, scaled to 299x299 as in the paper: `(B, 2048)`."""
        return self.inception(images)[0]
