"""TarFlow (Zhai et al. 2024, arXiv:2412.06329)."""

from collections.abc import Sequence

from flows.arguments import check_image_shape, choose, require_positive
from flows.autoregressive_prior import AutoregressivePrior
from flows.bijections.chain import Chain
from flows.bijections.elementwise import COUPLINGS
from flows.bijections.preprocess import PREPROCESSES
from flows.bijections.reshape import Squeeze
from flows.bijections.scale import SCALES
from flows.image_flow import ImageFlow
from flows.multiscale import Multiscale
from flows.networks.conditioner import relu
from flows.networks.context import labels_to_read
from flows.variational_dequantize import DEQUANTIZATIONS


class TarFlow(ImageFlow):
    """Squeezes and autoregressive transformers: one level whose tokens are patches of the image.

    Other than in the paper, the first token is mapped too, from a learned start token. With `mix`, a 1x1 convolution
    between neighbouring transformers mixes the entries of each token; the paper has none.

    Args:
        image_shape: (C, H, W), with H and W divisible by 2^num_squeezes.
        num_squeezes: a token is a patch of 2^num_squeezes by 2^num_squeezes pixels.
        num_blocks: number of transformers (T); neighbours read the patches in opposite directions.
        num_layers: layers of each (K).
        width: channels of each.
        num_heads: heads of each, a divisor of the width.
        num_bits: bits of each grey level, 1 to 8.
        dequantize: "uniform" noise, or "variational" (from Flow++: a different bound; reports must say so).
        preprocess: "none" (the paper's), "logit" or "gaussianize".
        coupling: the map of each token, "affine" (the paper's), "shifted_affine", "additive" or "mixture".
        scale: "tanh4", "learned_tanh" or "sigmoid"; the paper's scale has no bounds.
        mix: whether 1x1 convolutions mix the entries of each token.
        input_limit: as for Glow.
        num_classes: number of labels of a class-conditional model; None for none.
        label_dropout: part of the training images whose label is dropped, so that samples can be guided.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_squeezes: int = 1,
        num_blocks: int = 8,
        num_layers: int = 8,
        width: int = 768,
        num_heads: int = 12,
        num_bits: int = 8,
        dequantize: str = "uniform",
        preprocess: str = "none",
        coupling: str = "affine",
        scale: str = "tanh4",
        mix: bool = False,
        input_limit: float | None = None,
        num_classes: int | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        require_positive(
            num_squeezes=num_squeezes, num_blocks=num_blocks, num_layers=num_layers, width=width, num_heads=num_heads
        )
        shape = channels, height, width_of_image = check_image_shape(
            image_shape, num_halvings=num_squeezes, because="num_squeezes"
        )
        make_dequantize = choose("dequantize", DEQUANTIZATIONS, dequantize)
        make_elementwise = choose("coupling", COUPLINGS, coupling)
        make_scale = choose("scale", SCALES, scale)
        first = choose("preprocess", PREPROCESSES, preprocess)(channels)
        side = 2**num_squeezes
        tokens = channels * side**2, height // side, width_of_image // side
        top = AutoregressivePrior(
            tokens,
            num_blocks=num_blocks,
            num_layers=num_layers,
            width=width,
            num_heads=num_heads,
            make_elementwise=lambda channels: make_elementwise(make_scale(channels)),
            mix=mix,
            num_classes=labels_to_read(num_classes, label_dropout),
            input_limit=input_limit,
        )
        super().__init__(
            image_shape=shape,
            dequantize=make_dequantize(num_bits, shape, relu),
            multiscale=Multiscale([Chain(*first, *(Squeeze() for _ in range(num_squeezes)))], [], top, [tokens]),
            num_classes=num_classes,
            label_dropout=label_dropout,
        )
