"""A small convolutional network that tells classes of images."""

from torch import Tensor, nn


class ConvClassifier(nn.Module):
    """Four convolutions with batch normalisation, the mean over pixels, and one linear layer.

    Args:
        channels: C of the images.
        num_classes: number of classes.
    """

    num_features = 64

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            *_convolved(channels, 32),
            nn.MaxPool2d(2),
            *_convolved(32, 64),
            *_convolved(64, 64),
            nn.MaxPool2d(2),
            *_convolved(64, self.num_features),
        )
        self.head = nn.Linear(self.num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images `(B, C, H, W)`: `(B, 64)`, all at least 0."""
        return self.layers(images.float() / 255).mean((2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Return the most likely class of each image from its features `(B, 64)`: int64 `(B,)`."""
        return self.head(features).argmax(1)


def _convolved(num_inputs: int, num_outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(num_inputs, num_outputs, 3, padding=1, bias=False), nn.BatchNorm2d(num_outputs), nn.ReLU()]
