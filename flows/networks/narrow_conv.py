"""Same-size convolutions, and how they are computed where few channels meet many.

oneDNN computes 8 or 16 output channels at once, also if there are only 2. The first level of a flow has few channels,
and its networks have many. There, the last convolution and the gradient of the first one's input are products of
matrices: first each pixel is multiplied by the kernels of all nine taps, then the taps are shifted and added.

On processors without AVX-512, the gradients of the last convolution are products of matrices in more cases: also with
some more channels, and for few pixels. With AVX-512, oneDNN takes less time there.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from flows.bijections.linear import as_image, as_rows

FEW = 6
"""Most channels for which this takes less time: with 2, 4 and 6 channels 0.3, 0.5 and 0.7 of oneDNN's, with one thread
and with two (AMD EPYC, AVX-512)."""
MANY = 16
"""Least channels on the other side."""
LEAST_PIXELS = 2048
"""Least pixels of a batch, as more operators are called."""

MANY_TIMES = 4
"""With at least so many times more input channels than output channels, gradients take 0.6 to 1.0 of oneDNN's time
without AVX-512. With it, they take 1.0 to 1.2 of it."""
MANY_FOR_GRADIENTS = 64
"""Least input channels for this."""
FEW_PIXELS = 1024
"""Most pixels of a batch for which gradients take less time with at most as many output channels as input channels: 0.6
to 0.9 of oneDNN's."""


def conv2d(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the same-size convolution of `x` `(B, C, H, W)` with a kernel `(out, in, side, side)`."""
    if is_narrow(x, kernel, few=kernel.shape[0], many=kernel.shape[1]):
        return to_few_channels(x, kernel, bias)
    return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)


def conv2d_backward(grad: Tensor, x: Tensor, kernel: Tensor, needs_x: bool) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of `conv2d` with respect to `x` (None if it is not needed) and to the kernel.

    Args:
        grad: gradient with respect to the output.
        x: the input.
        kernel: as for `conv2d`.
        needs_x: whether the gradient with respect to `x` is needed.
    """
    out_channels, in_channels, side, _ = kernel.shape
    if gradients_are_products(x, kernel):
        return gradients_by_products(grad, x, kernel, needs_x)
    narrow_input = needs_x and is_narrow(x, kernel, few=in_channels, many=out_channels)
    needed = [needs_x and not narrow_input, True, False]
    grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
        grad, x, kernel, None, [1, 1], [side // 2] * 2, [1, 1], False, [0, 0], 1, needed
    )
    return to_few_channels(grad, kernel.transpose(0, 1).flip(2, 3)) if narrow_input else grad_x, grad_kernel


def may_be_products(x: Tensor, kernel: Tensor) -> bool:
    """Return whether a convolution may be computed as products of matrices.

    Compiled, they take more time than oneDNN, and minutes to compile.
    """
    return (
        kernel.shape[-1] == 3
        and x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and x.dtype in (torch.float32, torch.float64)
    )


def is_narrow(x: Tensor, kernel: Tensor, few: int, many: int) -> bool:
    """Return whether products of matrices take less time for a convolution between so many channels."""
    return few <= FEW and many >= MANY and may_be_products(x, kernel) and num_pixels(x) >= LEAST_PIXELS


def gradients_are_products(x: Tensor, kernel: Tensor) -> bool:
    """Return whether products of matrices take less time for the gradients of a convolution."""
    out_channels, in_channels, *_ = kernel.shape
    if is_narrow(x, kernel, few=out_channels, many=in_channels):
        return True
    if has_avx512():
        return False
    many_inputs = in_channels >= max(MANY_FOR_GRADIENTS, MANY_TIMES * out_channels)
    few_pixels = num_pixels(x) <= FEW_PIXELS and in_channels >= max(MANY, out_channels)
    return (many_inputs or few_pixels) and may_be_products(x, kernel)


@cache
def has_avx512() -> bool:
    """Return whether the processor computes 16 numbers of 32 bits at once."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def num_pixels(x: Tensor) -> int:
    """Return the number of pixels of a batch `(B, C, H, W)`."""
    return x.numel() // x.shape[1]


def to_few_channels(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the same-size convolution with a 3x3 kernel: all taps of each pixel, then their shifted sum."""
    batch_size, channels, height, width = x.shape
    pixels = as_rows(x).view(batch_size, height * width, channels)
    # One product for each image: with two threads, one product for the whole batch takes up to twice the time.
    taps = (by_taps(kernel) @ pixels.transpose(1, 2)).view(batch_size, 3, 3, -1, height, width)
    rows = taps[:, :, 1]
    rows[..., 1:] += taps[:, :, 0, ..., :-1]
    rows[..., :-1] += taps[:, :, 2, ..., 1:]
    total = rows[:, 1] if bias is None else rows[:, 1].add_(bias[:, None, None])
    total[..., 1:, :] += rows[:, 0, ..., :-1, :]
    total[..., :-1, :] += rows[:, 2, ..., 1:, :]
    return total.contiguous(memory_format=torch.channels_last)


def gradients_by_products(grad: Tensor, x: Tensor, kernel: Tensor, needs_x: bool) -> tuple[Tensor | None, Tensor]:
    """Return what `conv2d_backward` returns for a 3x3 kernel: the gradient is shifted for each tap."""
    out_channels, in_channels, *_ = kernel.shape
    shifted = planes_by_taps(grad) if out_channels <= FEW else rows_by_taps(grad).t()
    grad_x = as_image(shifted.t() @ by_taps(kernel.flip(2, 3)), x) if needs_x else None
    grad_kernel = (shifted @ as_rows(x)).view(3, 3, out_channels, in_channels).permute(2, 3, 0, 1).flip(2, 3)
    return grad_x, grad_kernel


def planes_by_taps(x: Tensor) -> Tensor:
    """Return `x` `(B, C, H, W)` shifted for each tap, `(9 * C, B * H * W)`: faster for few channels."""
    height, width = x.shape[2:]
    windows = F.pad(x.transpose(0, 1), (1, 1, 1, 1)).unfold(2, height, 1).unfold(3, width, 1)
    return windows.permute(2, 3, 0, 1, 4, 5).reshape(9 * x.shape[1], -1)


def rows_by_taps(x: Tensor) -> Tensor:
    """Return `x` `(B, C, H, W)` shifted for each tap, `(B * H * W, 9 * C)`: faster for many channels."""
    windows = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1).unfold(1, 3, 1).unfold(2, 3, 1)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, 9 * x.shape[1])


def by_taps(kernel: Tensor) -> Tensor:
    """Return a 3x3 kernel as a matrix `(9 * out, in)`, tap by tap."""
    return kernel.permute(2, 3, 0, 1).reshape(-1, kernel.shape[1])
