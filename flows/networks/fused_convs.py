"""Convolutions with an activation between, as one node of the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from flows.autocast import network_precision
from flows.autograd import refuse, refuse_more_than_first_order, refuse_transforms
from flows.networks.narrow_conv import conv2d, conv2d_backward


class ScaledConv2d(nn.Conv2d):
    """A same-size convolution whose output channels are scaled: (conv(x) + bias) * exp(gain * log_scale).

    The scale is folded into the kernel, so it costs no pass over the image.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: float = 1.0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.gain = gain
        self.log_scale = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, *self.scaled())

    def scaled(self) -> tuple[Tensor, Tensor | None]:
        """Return kernel and bias, multiplied by the scale."""
        scale = (self.gain * self.log_scale).exp()
        return self.weight * column(scale), None if self.bias is None else self.bias * scale

    def folded(self) -> nn.Conv2d:
        """Return a plain convolution that computes the same."""
        return fixed_conv(*self.scaled())


def fixed_conv(kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """Return a same-size convolution with a kernel `(out, in, side, side)` that is not trained."""
    out_channels, in_channels, side, _ = kernel.shape
    sizes: dict[str, Any] = {"padding": side // 2, "bias": bias is not None}
    conv = skip_init(nn.Conv2d, in_channels, out_channels, side, **sizes)  # draws no random numbers
    assert isinstance(conv, nn.Conv2d)
    conv.weight = nn.Parameter(kernel, requires_grad=False)
    conv.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return conv


def is_same_size(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether this is a same-size convolution with a bias and torch's default settings otherwise."""
    return isinstance(conv, nn.Conv2d) and conv.bias is not None and has_default_settings(conv)


def has_default_settings(conv: nn.Conv2d) -> bool:
    """Return whether this is a same-size convolution with torch's default settings otherwise."""
    return (
        conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and conv.padding == (conv.kernel_size[1] // 2,) * 2
    )


@dataclass(frozen=True)
class Activation:
    """What is between two convolutions.

    Args:
        in_place: overwrites its argument with the values, and returns it.
        backward: overwrites the gradient of the values with that of the input, and returns it; its second argument is
            the values, or the input if there is a `forward`.
        forward: returns the values beside the input, which the backward pass needs; None if it needs the values only.
    """

    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    forward: Callable[[Tensor], Tensor] | None = None


def relu_backward(grad: Tensor, values: Tensor) -> Tensor:
    """Return the gradient of a ReLU, which overwrites the gradient that it is computed from."""
    return torch.ops.aten.threshold_backward.grad_input(grad, values, 0, grad_input=grad)


def gelu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of a GELU, which overwrites the gradient that it is computed from."""
    return torch.ops.aten.gelu_backward.grad_input(grad, x, grad_input=grad)


RELU = Activation(Tensor.relu_, relu_backward)
GELU = Activation(torch.ops.aten.gelu_, gelu_backward, F.gelu)


def activation_of(layer: nn.Module) -> Activation | None:
    """Return the activation that a layer computes; None if it is another layer."""
    if type(layer) is nn.GELU and layer.approximate == "none":
        return GELU
    return RELU if type(layer) is nn.ReLU else None


def fused_convs(x: Tensor, convs: Sequence[nn.Conv2d], activation: Activation = RELU) -> Tensor:
    """Return same-size convolutions of `x`, with an activation after each one except the last.

    Result and gradient are the same as when the modules run one after the other, but take less time. The gradient of a
    bias is a separate sum, because oneDNN computes it slowly. Operators on kernels and scales leave no nodes in the
    graph. Hooks of the modules do not run.

    Args:
        x: `(B, C, H, W)`.
        convs: all are `is_same_size`; some may be a `ScaledConv2d`.
        activation: RELU or GELU.

    Raises:
        ValueError: under a transform of `torch.func`, or if a second derivative is taken; see `plain_autograd`.
    """
    refuse_transforms()
    dtype = network_precision(x)
    gains: list[float | None] = []
    parameters: list[Tensor | None] = []
    for conv in convs:
        gain, log_scale = (conv.gain, conv.log_scale) if isinstance(conv, ScaledConv2d) else (None, None)
        gains.append(gain)
        parameters += [conv.weight, conv.bias, log_scale]
    if not torch.is_grad_enabled():
        return convolved(dtype, gains, activation, x, parameters)
    return _FusedConvs.apply(dtype, gains, activation, x, *parameters)


def convolved(
    dtype: torch.dtype,
    gains: Sequence[float | None],
    activation: Activation,
    x: Tensor,
    parameters: Sequence[Tensor | None],
    kept: list[Tensor | None] | None = None,
) -> Tensor:
    """Return what `fused_convs` returns; what the backward pass needs is appended to `kept`."""
    x = x.to(dtype)
    for place, gain in enumerate(gains):
        weight, bias, log_scale = parameters[3 * place : 3 * place + 3]
        assert weight is not None and bias is not None
        before = None
        if place > 0 and kept is not None and activation.forward is not None:
            before, x = x, activation.forward(x)
        elif place > 0:
            x = activation.in_place(x)
        if gain is None or log_scale is None:
            scale = None
            folded, offset = weight.to(dtype), bias
        else:
            scale = (gain * log_scale).exp()
            folded, offset = (weight * column(scale)).to(dtype), bias * scale
        if kept is not None:
            kept += [before, x, folded, bias, scale]
        x = conv2d(x, folded, offset.to(dtype))
    return x


class _FusedConvs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        dtype: torch.dtype,
        gains: list[float | None],
        activation: Activation,
        x: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        kept: list[Tensor | None] = []
        x = convolved(dtype, gains, activation, x, parameters, kept)
        ctx.gains, ctx.activation = gains, activation
        ctx.save_for_backward(*kept)
        return x

    jvp = staticmethod(refuse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_more_than_first_order(grad)
        gradients: list[Tensor | None] = []
        saved = ctx.saved_tensors  # read once: each access unpacks all of them if they are checkpointed or offloaded
        for place, gain in reversed(list(enumerate(ctx.gains))):
            before, x, folded, bias, scale = saved[5 * place : 5 * place + 5]
            grad_bias = grad.sum((0, 2, 3))
            grad_x, grad_weight = conv2d_backward(grad, x, folded, place > 0 or ctx.needs_input_grad[3])
            if place > 0:
                grad = ctx.activation.backward(grad_x, x if before is None else before)
            grad_log_scale = None
            if gain is not None:
                grad_log_scale = (grad_weight * folded).sum((1, 2, 3))
                grad_weight, grad_bias = grad_weight * column(scale), grad_bias * scale
                grad_log_scale = gain * torch.addcmul(grad_log_scale, grad_bias, bias)
            gradients = [grad_weight, grad_bias, grad_log_scale, *gradients]
        return None, None, None, grad_x, *gradients


def column(scale: Tensor) -> Tensor:
    """Return scales of output channels `(out,)` in a shape that multiplies kernels `(out, in, k, k)`."""
    return scale.view(-1, 1, 1, 1)
