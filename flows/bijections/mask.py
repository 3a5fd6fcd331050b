"""Masks: which part of the image a coupling reads, and which it transforms."""

import torch
from torch import Tensor, nn


class ChannelMask(nn.Module):
    """The first half of the channels conditions, the second half is transformed; `swap` exchanges them.

    (RealNVP, section 3.4, channel-wise masking; Glow's split.)
    """

    def __init__(self, channels: int, swap: bool = False) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"a channel mask halves the channels, so their number must be even, got {channels}")
        self.swap = swap
        self.part_channels = channels // 2

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the conditioning and the transformed part, each `(B, C/2, H, W)`."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.swap else (first, second)

    def merge(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Put the two parts together again: `(B, C, H, W)`."""
        return torch.cat((x2, x1) if self.swap else (x1, x2), dim=1)

    def select(self, values: Tensor) -> Tensor:
        """Return `values` with zeros where nothing is transformed; here, all entries of the part are transformed."""
        return values


class CheckerboardMask(nn.Module):
    """Pixels with (row + column) even condition, the others are transformed; `swap` exchanges them.

    Both parts keep the full shape, with zeros at the pixels of the other part (RealNVP, section 3.4).
    """

    def __init__(self, channels: int, swap: bool = False) -> None:
        super().__init__()
        self.swap = swap
        self.part_channels = channels

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the conditioning and the transformed part, each `(B, C, H, W)`."""
        x2 = self.select(x)
        return x - x2, x2

    def merge(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Put the two parts together again: `(B, C, H, W)`."""
        return torch.where(self.transformed(x1), x2, x1)

    def select(self, values: Tensor) -> Tensor:
        """Return `values` with zeros at the conditioning pixels."""
        return values * self.transformed(values)

    def transformed(self, x: Tensor) -> Tensor:
        """Return which pixels of `x` are transformed: bool `(H, W)`."""
        rows = torch.arange(x.shape[2], device=x.device)[:, None]
        columns = torch.arange(x.shape[3], device=x.device)
        return (rows + columns + self.swap) % 2 == 1
