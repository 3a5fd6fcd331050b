"""RealNVP (Dinh, Sohl-Dickstein & Bengio 2017, arXiv:1605.08803)."""

from collections.abc import Sequence
from functools import partial

from flows.arguments import check_image_shape, choose, require_positive
from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.chain import Chain
from flows.bijections.coupling import Coupling
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.mask import ChannelMask, CheckerboardMask
from flows.bijections.preprocess import PREPROCESSES
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import SCALES
from flows.image_flow import ImageFlow
from flows.models.top import make_top
from flows.multiscale import Multiscale
from flows.networks.conditioner import ACTIVATIONS, ResNet
from flows.networks.context import READERS, ContextNet, channels_to_read, labels_to_read
from flows.prior import Split
from flows.variational_dequantize import DEQUANTIZATIONS


class RealNVP(ImageFlow):
    """Scales of three checkerboard couplings, squeeze, three channel couplings and split.

    The last scale has four checkerboard couplings instead. Activation normalisation follows every coupling, where the
    paper has batch normalisation (section 3.7).

    Args:
        image_shape: (C, H, W), with H and W divisible by 2^(num_levels - 1).
        num_levels: L, the number of scales.
        hidden_channels: width of the first residual networks, doubled at every squeeze.
        num_blocks: residual blocks per network.
        num_bits: bits of each grey level, 1 to 8.
        dequantize: "uniform" noise (the paper's), or "variational" (from Flow++: a different bound; reports must say
            so).
        preprocess: "logit" (the paper's), "gaussianize" or "none".
        coupling: "affine", "shifted_affine", "additive" or "mixture" (Flow++'s).
        scale: "learned_tanh" (the paper's), "tanh4" or "sigmoid".
        activation: "relu" (the paper's) or "gelu" in all networks of convolutions.
        top_prior: "standard" (the paper's), "channel" or "position" Gaussian, or "autoregressive" transformers.
        prior_blocks: transformers of the autoregressive prior.
        prior_layers: layers of each.
        prior_width: channels of each, a multiple of 32.
        num_classes: number of labels of a class-conditional model; None for none.
        label_dropout: part of the training images whose label is dropped, so that samples can be guided.
        condition: which parts read the labels: "prior" for the top prior only, or "couplings" for couplings and prior,
            through an embedding.
        condition_shape: (C, H, W) of images that the model is conditioned on; None for none.
        context_channels: number of features of labels and condition images that the networks read.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_levels: int = 2,
        hidden_channels: int = 64,
        num_blocks: int = 8,
        num_bits: int = 8,
        dequantize: str = "uniform",
        preprocess: str = "logit",
        coupling: str = "affine",
        scale: str = "learned_tanh",
        activation: str = "relu",
        top_prior: str = "standard",
        prior_blocks: int = 2,
        prior_layers: int = 2,
        prior_width: int = 64,
        num_classes: int | None = None,
        label_dropout: float = 0.0,
        condition: str = "prior",
        condition_shape: Sequence[int] | None = None,
        context_channels: int = 16,
    ) -> None:
        require_positive(num_levels=num_levels, hidden_channels=hidden_channels, num_blocks=num_blocks)
        shape = channels, height, width = check_image_shape(image_shape, num_halvings=num_levels - 1)
        reads = channels_to_read(condition, num_classes, condition_shape, context_channels)
        make_dequantize = choose("dequantize", DEQUANTIZATIONS, dequantize)
        make_preprocess = choose("preprocess", PREPROCESSES, preprocess)
        make_elementwise = choose("coupling", COUPLINGS, coupling)
        make_scale = choose("scale", SCALES, scale)
        make_activation = choose("activation", ACTIVATIONS, activation)

        def couplings(
            channels: int, hidden_channels: int, make_mask: type[ChannelMask | CheckerboardMask], count: int
        ) -> list[Bijection]:
            make_conditioner = partial(
                ResNet, hidden_channels=hidden_channels, num_blocks=num_blocks, activation=make_activation
            )
            layers: list[Bijection] = []
            for position in range(count):
                mask = make_mask(channels, swap=position % 2 == 1)
                elementwise = make_elementwise(make_scale(mask.part_channels))
                layers += [Coupling(channels, mask, elementwise, make_conditioner, reads), ActNorm(channels)]
            return layers

        levels, splits, latent_shapes, sizes = [], [], [], []
        for level in range(num_levels):
            hidden = hidden_channels * 2**level
            sizes.append((height, width))
            layers: list[Bijection] = make_preprocess(channels) if level == 0 else []
            if level < num_levels - 1:
                layers += couplings(channels, hidden, CheckerboardMask, 3)
                channels, height, width = 4 * channels, height // 2, width // 2
                sizes.append((height, width))
                layers += [Squeeze(), *couplings(channels, 2 * hidden, ChannelMask, 3)]
                splits.append(Split(channels))
                channels //= 2
            else:
                layers += couplings(channels, hidden, CheckerboardMask, 4)
            levels.append(Chain(*layers))
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
            input_limit=None,
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
