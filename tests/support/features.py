"""Features for tests: those of digits are fast to compute, and Inception has weights by chance."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


class Unset(nn.Module):
    """Random projections behind a layer of batches, as a network has that nobody set to evaluation."""

    distance = "FD"
    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.projected = Projected()
        self.norm = nn.BatchNorm1d(self.num_features)
        self.check = self.projected.check

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.projected(images))


class Projected(nn.Module):
    """Random projections of 8x8 images. The class is the nearest of ten directions."""

    distance = "FD"
    num_classes = 10

    def __init__(self, num_features: int = 6, class_names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.class_names = class_names
        self.num_features = num_features
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("directions", torch.randn(64, num_features, generator=generator) / 256)
        self.register_buffer("classes", torch.randn(num_features, 10, generator=generator))

    def check(self, image_shape: Sequence[int]) -> None:
        if tuple(image_shape) != (1, 8, 8):
            raise ValueError(f"digits of 8x8 are wanted, got {tuple(image_shape)}")

    def forward(self, images: Tensor) -> Tensor:
        return images.float().flatten(1) @ self.directions

    def classify(self, features: Tensor) -> Tensor:
        return (features @ self.classes).argmax(1)


def random_inception(path: Path) -> Path:
    """Write a file of the form of Inception's weights, with weights by chance, and return its path."""
    state: dict[str, Tensor] = {}

    class Fresh(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            state.update(self.state_dict())

    torch.save({}, path)
    Fresh("fresh", ["2048"], str(path))
    torch.save(state, path)
    return path
