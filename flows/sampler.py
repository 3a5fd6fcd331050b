"""Sampling many times from one flow: what depends on its weights alone is computed once."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from flows.bijection import Bijection
from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.chain import Chain
from flows.bijections.linear import ChannelLinear, WeightAndBias, inverses, map_pixels, run_as_matrices
from flows.bijections.preprocess import Gaussianize
from flows.compiled_inverse import compiled_inverse
from flows.context import Context
from flows.hooks import is_hooked
from flows.image_flow import ImageFlow
from flows.networks.conditioner import KNOWN_CONVS, ConvNet, WeightNormConv2d, last_convs
from flows.networks.fused_convs import ScaledConv2d, has_default_settings
from flows.networks.narrow_conv import conv2d

KNOWN = ("flows.", "torch.")
"""Beginnings of the modules whose layers run in torch's inference mode, where operators start sooner. The inverse of
another layer may use autograd, which this mode forbids."""


class Sampler:
    """Draws the same images as a flow does, in less time: its `sample` and `decode` are those of `ImageFlow`.

    Inverse matrices, kernels of networks (with Glow's scales and RealNVP's weight normalisation) and the probabilities
    of grey levels are computed once. So changes of the flow after this do not reach the sampler.

    Args:
        flow: the model; it is copied.
        parallel: whether autoregressive maps decode all tokens at once, again and again until nothing changes.
        compile: whether to compile the way from latents to images with torch.compile. Autoregressive maps are left out,
            and mixture maps are compiled in pieces. The first images, and the first of another number of images, then
            take 10 seconds or more. Some values may differ by one grey level. Changes of the sampler's own flow may
            not reach the images any more.

    Raises:
        ValueError: if autoregressive maps are to decode in parallel and there are none.
    """

    def __init__(self, flow: ImageFlow, parallel: bool = False, compile: bool = False) -> None:
        self.flow = deepcopy(flow).requires_grad_(False).eval()
        transformers = [part for part in self.flow.modules() if isinstance(part, AutoregressiveTransformer)]
        if parallel:
            if not transformers:
                raise ValueError("parallel is for autoregressive maps, and this flow has none: leave parallel out")
            for part in transformers:
                part.parallel = True
        with torch.no_grad():
            fix(self.flow)
        known = all(type(part).__module__.startswith(KNOWN) and not is_hooked(part) for part in self.flow.modules())
        if compile:
            multiscale = self.flow.multiscale
            multiscale.inverse = compiled_inverse(multiscale, known)  # type: ignore[method-assign]
        self.mode = torch.inference_mode if known else torch.no_grad

    def sample(self, *arguments: Any, **options: Any) -> Tensor:
        """Return what `ImageFlow.sample` returns for these arguments."""
        with self.mode():
            images = self.flow.sample(*arguments, **options)
        return images.clone()  # outside of the mode, so that they can be used in any way

    def decode(self, *arguments: Any, **options: Any) -> Tensor:
        """Return what `ImageFlow.decode` returns for these arguments."""
        with self.mode():
            images = self.flow.decode(*arguments, **options)
        return images.clone()


class KnownInverse(Bijection):
    """A linear map of the channels of which only the inverse is left.

    Args:
        inverse: W^-1 `(C, C)` and -W^-1 b `(C,)`.
    """

    def __init__(self, inverse: WeightAndBias) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Buffer(part.clone()) for part in inverse)

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a sampler goes from latents to images only")

    def inverse(self, z: Tensor, context: Context | None = None) -> Tensor:
        return map_pixels(z, (self.weight, self.bias))


class KnownHistogram(Gaussianize):
    """A Gaussianize whose probabilities are computed already.

    Args:
        layer: what it is made from.
    """

    def __init__(self, layer: Gaussianize) -> None:
        super().__init__(layer.logits.shape[0], layer.num_bins, layer.smoothing)
        self.logits = layer.logits
        self.mass, self.below = (nn.Buffer(part) for part in Gaussianize._histogram(layer))

    def _histogram(self) -> tuple[Tensor, Tensor]:
        return self.mass, self.below


class KnownNetwork(nn.Module):
    """A network whose kernels are computed already, and whose convolutions are not called as modules.

    Args:
        layers: those of a ConvNet, of which some are found by `last_convs`.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        convs, self.activation = last_convs(layers)
        self.before = nn.Sequential(*layers[: len(layers) - 2 * len(convs) + 1])
        folded = [conv.folded() if isinstance(conv, ScaledConv2d) else conv for conv in convs]
        self.convs = nn.ModuleList(folded)
        self.kernels = [(conv.weight, conv.bias) for conv in folded]

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for place, (kernel, bias) in enumerate(self.kernels):
            x = conv2d(self.activation.in_place(x) if place > 0 else x, kernel, bias)
        return x


def is_foldable(part: nn.Module) -> TypeGuard[ScaledConv2d | WeightNormConv2d]:
    """Return whether a plain convolution with its `folded` kernel computes the same."""
    if isinstance(part, ScaledConv2d):
        return type(part) in KNOWN_CONVS and has_default_settings(part)
    return type(part) is WeightNormConv2d


def fix(module: nn.Module) -> None:
    """Replace the parts of a module, in place, by parts that compute the same inverse with less work."""
    if isinstance(module, Chain):
        layers = [layer for layer in run_as_matrices(module.bijections) if not is_hooked(layer)]
        like = next(module.parameters(), torch.empty(()))
        together = type(module).inverse is Chain.inverse
        found = inverses(layers, like) if together else [inverses([layer], like)[0] for layer in layers]
        known = dict(zip(layers, found, strict=True))
        parts = [
            KnownInverse(known[part]) if isinstance(part, ChannelLinear) and part in known else part
            for part in module.bijections
        ]
        module.bijections = nn.ModuleList(parts)  # type: ignore[assignment]
    for name, part in module.named_children():
        if is_hooked(part):
            continue
        if isinstance(part, ConvNet) and type(part) is ConvNet and last_convs([*part])[0]:
            network = KnownNetwork([*part])
            setattr(module, name, network)
            fix(network.before)
        elif is_foldable(part):
            setattr(module, name, part.folded())
        elif isinstance(part, Gaussianize) and type(part) is Gaussianize:
            setattr(module, name, KnownHistogram(part))
        else:
            fix(part)
