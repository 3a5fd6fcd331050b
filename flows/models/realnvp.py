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
from flows.multiscale import Multiscale
from flows.networks.conditioner import ResNet
from flows.prior import Split, TopPrior
from flows.variational_dequantize import DEQUANTIZATIONS


class RealNVP(ImageFlow):
    """Scales of three checkerboard couplings, squeeze, three channel couplings and split; four at the last.

    Activation normalisation follows every coupling, where the paper has batch normalisation (section 3.7).

    Args:
        image_shape: (C, H, W), with H and W divisible by 2^(num_levels - 1).
        num_levels: L, the number of scales.
        hidden_channels: width of the first residual networks, doubled at every squeeze.
        num_blocks: residual blocks a network.
        num_bits: bits of each grey level, 1 to 8.
        dequantize: "uniform" noise (the paper's), or "variational" (Flow++'s: another bound, and to be reported so).
        preprocess: "logit" (the paper's), "gaussianize" or "none".
        coupling: "affine", "shifted_affine", "additive" or "mixture" (Flow++'s).
        scale: "learned_tanh" (the paper's), "tanh4" or "sigmoid".
        top_prior: "standard" (the paper's), "channel" or "position".
        num_classes: number of labels for a class-conditional top prior; None for none.

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
        top_prior: str = "standard",
        num_classes: int | None = None,
    ) -> None:
        require_positive(num_levels=num_levels, hidden_channels=hidden_channels, num_blocks=num_blocks)
        shape = channels, height, width = check_image_shape(image_shape, num_halvings=num_levels - 1)
        make_dequantize = choose("dequantize", DEQUANTIZATIONS, dequantize)
        make_preprocess = choose("preprocess", PREPROCESSES, preprocess)
        make_elementwise = choose("coupling", COUPLINGS, coupling)
        make_scale = choose("scale", SCALES, scale)

        def couplings(
            channels: int, hidden_channels: int, make_mask: type[ChannelMask | CheckerboardMask], count: int
        ) -> list[Bijection]:
            make_conditioner = partial(ResNet, hidden_channels=hidden_channels, num_blocks=num_blocks)
            layers: list[Bijection] = []
            for position in range(count):
                mask = make_mask(channels, swap=position % 2 == 1)
                elementwise = make_elementwise(make_scale(mask.part_channels))
                layers += [Coupling(channels, mask, elementwise, make_conditioner), ActNorm(channels)]
            return layers

        levels, splits, latent_shapes = [], [], []
        for level in range(num_levels):
            hidden = hidden_channels * 2**level
            layers: list[Bijection] = make_preprocess(channels) if level == 0 else []
            if level < num_levels - 1:
                layers += couplings(channels, hidden, CheckerboardMask, 3)
                channels, height, width = 4 * channels, height // 2, width // 2
                layers += [Squeeze(), *couplings(channels, 2 * hidden, ChannelMask, 3)]
                splits.append(Split(channels))
                channels //= 2
            else:
                layers += couplings(channels, hidden, CheckerboardMask, 4)
            levels.append(Chain(*layers))
            latent_shapes.append((channels, height, width))

        super().__init__(
            image_shape=shape,
            dequantize=make_dequantize(num_bits, shape),
            multiscale=Multiscale(levels, splits, TopPrior(latent_shapes[-1], top_prior, num_classes)),
            latent_shapes=latent_shapes,
            num_classes=num_classes,
        )
