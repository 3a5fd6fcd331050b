"""The network that makes a context out of labels and of images that a flow is conditioned on."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flows.arguments import choose, require_positive
from flows.networks.conditioner import plain_conv, relu

READERS = {"prior": False, "couplings": True}
"""Choices of `condition`: whether couplings and splits read the label, or the top prior alone (Glow's `ycond`)."""


def channels_to_read(
    condition: str, num_classes: int | None, condition_shape: Sequence[int] | None, context_channels: int
) -> int:
    """Return the number of features that the parts of a flow read, 0 for none.

    Raises:
        ValueError: if an argument is out of range, or if there are no labels to read.
    """
    require_positive(context_channels=context_channels)
    reads_labels = choose("condition", READERS, condition)
    if reads_labels and num_classes is None:
        raise ValueError(f"condition={condition} is about labels, and there are none: give num_classes, too")
    if condition_shape is not None and (
        len(condition_shape) != 3 or not all(isinstance(size, int) and size >= 1 for size in condition_shape)
    ):
        raise ValueError(f"condition_shape is three positive whole numbers (C, H, W), got {condition_shape!r}")
    return context_channels if reads_labels or condition_shape is not None else 0


def labels_to_read(num_classes: int | None, label_dropout: float) -> int | None:
    """Return how many labels the parts of a flow know: one more than classes if labels are dropped in training.

    Raises:
        ValueError: if label_dropout is out of range, or if there are no labels to drop.
    """
    if not isinstance(label_dropout, int | float) or not 0 <= label_dropout < 1:
        raise ValueError(f"label_dropout is a part of the training images, from 0 to below 1, got {label_dropout!r}")
    if num_classes is not None:
        require_positive(num_classes=num_classes)
    elif label_dropout:
        raise ValueError("label_dropout drops labels, and there are none: give num_classes, too")
    return num_classes if num_classes is None or label_dropout == 0 else num_classes + 1


class ContextNet(nn.Module):
    """Make features of labels, of condition images, or of both.

    Labels are embedded. Condition images go through two convolutions at their own size; these features are brought to
    each size that the flow works at, and go through one more convolution there.

    Args:
        channels: E, the number of features.
        num_classes: number of labels; None if labels are not read here.
        condition_shape: (C, H, W) of the condition images; None if there are none.
        sizes: all (H, W) that the parts of the flow work at.
        hidden_channels: width of the convolutions.
        activation: makes what follows each convolution.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int | None,
        condition_shape: Sequence[int] | None,
        sizes: Sequence[tuple[int, int]],
        hidden_channels: int = 64,
        activation: Callable[[], nn.Module] = relu,
    ) -> None:
        super().__init__()
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, channels)
        self.trunk: nn.Module | None = None
        self.sizes = list(dict.fromkeys(sizes))
        if condition_shape is not None:
            self.trunk = nn.Sequential(
                plain_conv(condition_shape[0], hidden_channels, 3),
                activation(),
                plain_conv(hidden_channels, hidden_channels, 3),
                activation(),
            )
            self.heads = nn.ModuleList(plain_conv(hidden_channels, channels, 3) for _ in self.sizes)
            self.activation = activation()

    @property
    def reads_labels(self) -> bool:
        """Whether the features depend on labels."""
        return self.embedding is not None

    def forward(self, label: Tensor | None, condition: Tensor | None) -> tuple[Tensor, ...]:
        """Return the context made from `label` `(B,)` int64 and `condition` uint8 `(B, C, H, W)`, if they are read.

        Returns:
            Features `(B, E, 1, 1)` of labels alone, else `(B, E, H, W)` for each size.
        """
        embedded = None
        if self.embedding is not None:
            assert label is not None
            embedded = self.embedding(label)[:, :, None, None]
        if self.trunk is None:
            assert embedded is not None
            return (embedded,)
        assert condition is not None
        grey = condition.to(next(self.parameters()).dtype) / 255 - 0.5
        hidden = self.trunk(grey)
        features = [
            self.activation(head(F.interpolate(hidden, size, mode="area")))
            for head, size in zip(self.heads, self.sizes, strict=True)
        ]
        if embedded is not None:
            features = [torch.add(entry, embedded) for entry in features]
        return tuple(features)
