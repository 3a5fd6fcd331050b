"""Glow (Kingma & Dhariwal 2018, arXiv:1807.03039)."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from flows.arguments import check_image_shape, choose, require_positive
from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1, InvertibleConv1x1LU, UnitConv1x1, WhiteningConv1x1
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.folded import Folded
from flows.bijections.linear import ChannelLinear
from flows.bijections.mask import ChannelMask
from flows.bijections.permutation import Permutation
from flows.bijections.preprocess import PREPROCESSES
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import SCALES
from flows.image_flow import ImageFlow
from flows.models.top import make_top
from flows.multiscale import Multiscale
from flows.networks.conditioner import ACTIVATIONS, HIDDEN_CONVS, ConvNet, ZeroConv2d, limited
from flows.networks.context import READERS, ContextNet, channels_to_read, labels_to_read
from flows.prior import Split
from flows.variational_dequantize import DEQUANTIZATIONS

PERMUTATIONS: dict[str, Callable[[int], ChannelLinear]] = {
    "conv1x1": InvertibleConv1x1,
    "conv1x1_lu": InvertibleConv1x1LU,
    "conv1x1_white": WhiteningConv1x1,
    "reversal": Permutation.reversal,
    "random": Permutation.random,
}
"""Choices of `permutation`: how channels mix before each coupling."""

LATER_PERMUTATIONS: dict[str, Callable[[int], ChannelLinear]] = {"conv1x1_white": UnitConv1x1.exchange}
"""The choices for which the steps of a level after its first one mix in another way."""


class Glow(ImageFlow):
    """L levels of squeeze, K steps and split; a step is actnorm, 1x1 convolution and coupling.

    The defaults are the choices of the original release; `conf/model/glow.yaml` has the choices that train best at
    small sizes.

    The edge channel of the original release is left out. In the release, each 3x3 convolution reads one more channel,
    which is 1 on the padded border. Through this channel, the top prior depends on the border. (For CIFAR-10, the
    release has 44,603,604 parameters, this model 44,052,816.)

    Args:
        image_shape: (C, H, W), with H and W divisible by 2^num_levels.
        num_levels: L.
        num_steps: K, steps per level.
        hidden_channels: width of the networks in the couplings.
        num_bits: bits of each grey level, 1 to 8.
        dequantize: "uniform" noise, or "variational" (from Flow++: a different bound; reports must say so).
        preprocess: "none" (the original release's), "logit" (RealNVP's) or "gaussianize".
        permutation: "conv1x1", "conv1x1_lu", "conv1x1_white" (starts by whitening the first batch in the first
            step of a level, and by exchanging halves in the others, which keep the volume), "reversal" or "random".
        coupling: "affine" (x * scale + shift), "shifted_affine" ((x + shift) * scale, the original release's),
            "additive", or "mixture" (from Flow++: the model is then no longer Glow; reports must say so).
        scale: "sigmoid" (the original release's), "tanh4" or "learned_tanh".
        conditioner: hidden layers with "actnorm" (the original release's) or "plain".
        activation: "relu" (the original release's) or "gelu" after the hidden layers of all networks of convolutions.
        input_limit: the input of the networks in couplings and splits is clamped to [-input_limit, input_limit]. This
            keeps deep flows stable at high learning rates. None for no limit (the original release's).
        top_prior: "position", "channel" or "standard" Gaussian, or "autoregressive" transformers.
        prior_blocks: transformers of the autoregressive prior.
        prior_layers: layers of each.
        prior_width: channels of each, a multiple of 32.
        num_classes: number of labels of a class-conditional model; None for none.
        label_dropout: part of the training images whose label is dropped, so that samples can be guided.
        condition: which parts read the labels: "prior" for the top prior only (the original release's), or "couplings"
            for couplings, splits and prior, through an embedding.
        condition_shape: (C, H, W) of images that the model is conditioned on; None for none.
        context_channels: number of features of labels and condition images that the networks read.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_levels: int = 3,
        num_steps: int = 32,
        hidden_channels: int = 512,
        num_bits: int = 8,
        dequantize: str = "uniform",
        preprocess: str = "none",
        permutation: str = "conv1x1",
        coupling: str = "shifted_affine",
        scale: str = "sigmoid",
        conditioner: str = "actnorm",
        activation: str = "relu",
        input_limit: float | None = None,
        top_prior: str = "channel",
        prior_blocks: int = 2,
        prior_layers: int = 2,
        prior_width: int = 64,
        num_classes: int | None = None,
        label_dropout: float = 0.0,
        condition: str = "prior",
        condition_shape: Sequence[int] | None = None,
        context_channels: int = 16,
    ) -> None:
        require_positive(num_levels=num_levels, num_steps=num_steps, hidden_channels=hidden_channels)
        shape = channels, height, width = check_image_shape(image_shape, num_halvings=num_levels)
        reads = channels_to_read(condition, num_classes, condition_shape, context_channels)
        make_dequantize = choose("dequantize", DEQUANTIZATIONS, dequantize)
        make_preprocess = choose("preprocess", PREPROCESSES, preprocess)
        make_first = choose("permutation", PERMUTATIONS, permutation)
        make_later = LATER_PERMUTATIONS.get(permutation, make_first)
        make_elementwise = choose("coupling", COUPLINGS, coupling)
        make_scale = choose("scale", SCALES, scale)
        make_activation = choose("activation", ACTIVATIONS, activation)
        make_conditioner = partial(
            ConvNet,
            hidden_channels=hidden_channels,
            hidden_conv=choose("conditioner", HIDDEN_CONVS, conditioner),
            input_limit=input_limit,
            activation=make_activation,
        )

        def step(channels: int, index: int) -> list[Bijection]:
            make_permutation = make_later if index else make_first
            mask = ChannelMask(channels)
            elementwise = make_elementwise(make_scale(mask.part_channels))
            return [
                Folded(ActNorm(channels), make_permutation(channels)),
                Coupling(channels, mask, elementwise, make_conditioner, reads),
            ]

        levels, splits, latent_shapes, sizes = [], [], [], []
        for level in range(num_levels):
            first = make_preprocess(channels) if level == 0 else []
            channels, height, width = 4 * channels, height // 2, width // 2
            sizes.append((height, width))
            steps = [bijection for index in range(num_steps) for bijection in step(channels, index)]
            levels.append(Chain(*first, Squeeze(), *steps))
            if level < num_levels - 1:
                prior = nn.Sequential(*limited(input_limit), ZeroConv2d(channels // 2 + reads, channels))
                splits.append(Split(channels, prior, reads))
                channels //= 2
            latent_shapes.append((channels, height, width))

        dequantizer = make_dequantize(num_bits, shape, make_activation)
        labels = labels_to_read(num_classes, label_dropout)
        labels_of_prior, labels_of_all = (None, labels) if READERS[condition] else (labels, None)
        top = make_top(
            latent_shapes[-1],
            top_prior,
            labels_of_prior,
            reads,
            prior_blocks=prior_blocks,
            prior_layers=prior_layers,
            prior_width=prior_width,
            input_limit=input_limit,
        )
        context_net = (
            ContextNet(reads, labels_of_all, condition_shape, sizes, activation=make_activation) if reads else None
        )
        super().__init__(
            image_shape=shape,
            dequantize=dequantizer,
            multiscale=Multiscale(levels, splits, top, latent_shapes),
            num_classes=num_classes,
            condition_shape=condition_shape,
            context_net=context_net,
            label_dropout=label_dropout,
        )
