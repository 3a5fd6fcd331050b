"""The autoregressive prior of the coarsest latents."""

from collections.abc import Callable

from torch import Tensor

from flows.bijection import Bijection
from flows.bijections.actnorm import ActNorm
from flows.bijections.autoregressive import AutoregressiveTransformer
from flows.bijections.chain import Chain
from flows.bijections.conv1x1 import InvertibleConv1x1
from flows.bijections.elementwise import Affine, ElementwiseMap
from flows.bijections.folded import Folded
from flows.bijections.scale import BoundedScale
from flows.context import Context
from flows.guidance import Guidance


def bounded_affine(channels: int) -> ElementwiseMap:
    """Return an affine map whose scale is between exp(-4) and exp(4)."""
    return Affine(BoundedScale(channels))


class AutoregressivePrior(Chain):
    """Blocks of autoregressive transformers that map the coarsest latents to N(0, I) (TarFlow, STARFlow).

    Neighbouring blocks read the pixels in opposite directions, and an invertible 1x1 convolution between them may mix
    the entries of each pixel. Labels enter as the embedding that each block adds to its tokens.

    Args:
        shape: (C, H, W) of the latents.
        num_blocks: number of transformers.
        num_layers: layers of each.
        width: channels of each.
        num_heads: heads of each.
        make_elementwise: makes the map of the tokens of a block, for their number of entries.
        mix: whether there are 1x1 convolutions between blocks.
        num_classes: number of labels; None for none.
        context_channels: E, the number of features that the blocks read; 0 for none.
        input_limit: as for `limited`.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        num_blocks: int,
        num_layers: int,
        width: int,
        num_heads: int,
        make_elementwise: Callable[[int], ElementwiseMap] = bounded_affine,
        mix: bool = True,
        num_classes: int | None = None,
        context_channels: int = 0,
        input_limit: float | None = None,
    ) -> None:
        channels = shape[0]
        parts: list[Bijection] = []
        for block in range(num_blocks):
            if mix and block > 0:
                parts.append(Folded(ActNorm(channels), InvertibleConv1x1(channels)))
            parts.append(
                AutoregressiveTransformer(
                    shape,
                    make_elementwise(channels),
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
        self.reads_context = num_classes is not None or context_channels > 0

    def inverse(self, z: Tensor, context: Context | None = None, guidance: Guidance | None = None) -> Tensor:
        """Map latents `(B, C, H, W)` back; with guidance, all tokens of all blocks are guided (see `Guidance`).

        In the block next to the latents, each token has the guided density given the tokens before it.

        Raises:
            ValueError: as for the transformers.
        """
        for part in reversed(self.bijections):
            more = (context, guidance) if isinstance(part, AutoregressiveTransformer) else ()
            z = part.inverse(z, *more)
        return z
