"""The autoregressive prior of the coarsest latents."""

from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.chain import Chain
from flows.bijections.elementwise import Affine
from flows.bijections.linear import Folded, InvertibleConv1x1
from flows.bijections.scale import BoundedScale


class AutoregressivePrior(Chain):
    """Blocks of autoregressive transformers that map the coarsest latents to N(0, I) (TarFlow, STARFlow).

    Neighbouring blocks read the pixels in opposite directions, and an invertible 1x1 convolution between them mixes the
    entries of each pixel. Labels enter as the embedding that each block adds to its tokens.

    Args:
        shape: (C, H, W) of the latents.
        num_blocks: number of transformers.
        num_layers: layers of each.
        width: channels of each.
        num_heads: heads of each.
        num_classes: number of labels; None for none.
        context_channels: E, the number of features that the blocks read; 0 for none.
        input_limit: as for `limited`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        num_blocks: int = 2,
        num_layers: int = 2,
        width: int = 64,
        num_heads: int = 2,
        num_classes: int | None = None,
        context_channels: int = 0,
        input_limit: float | None = None,
    ) -> None:
        channels = shape[0]
        parts: list[Bijection] = []
        for block in range(num_blocks):
            if block > 0:
                parts.append(Folded(ActNorm(channels), InvertibleConv1x1(channels)))
            parts.append(
                AutoregressiveTransformer(
                    shape,
                    Affine(BoundedScale(channels)),
                    width=width,
                    num_layers=num_layers,
                    num_heads=num_heads,
                    backwards=block % 2 == 1,
                    num_classes=num_classes,
                    context_channels=context_channels,
                    input_limit=input_limit,
                )
            )
        super().__init__(*parts)
        self.shape = shape
