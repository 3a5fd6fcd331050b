"""The multi-scale Glow of normflows (Stimper et al. 2023), trained and tested exactly like the models of this project.

`model=normflows_glow` chooses it; this needs `pip install -e '.[bench]'`. It is not in `flows/`, because it is only for
comparison.
"""

import warnings
from collections.abc import Sequence

import normflows as nf
import torch
from torch import Tensor, nn

from flows import build, register
from flows.arguments import check_image_shape, choose, require_positive
from flows.bijection import Bijection
from flows.bijections.preprocess import PREPROCESSES
from flows.context import Context
from flows.dequantize import Dequantize
from flows.image_flow import ImageFlow

__all__ = ["NormflowsGlow", "build"]

warnings.filterwarnings("ignore", message="torch.lu is deprecated")


class NormflowsGlow(ImageFlow):
    """An unconditional Glow, built like normflows' own example, on the dequantized images of this project.

    Args:
        image_shape: (C, H, W), with H and W divisible by 2^num_levels.
        num_levels: L.
        num_steps: K, GlowBlocks per level.
        hidden_channels: width of the couplings' networks.
        num_bits: bits of each grey level, 1 to 8.
        preprocess: "none" as in the example, or a first layer of this project: "logit" or "gaussianize".
        channels_last: whether to keep the weights of the convolutions in the memory format channels_last.

    Raises:
        ValueError: if an argument is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_levels: int = 3,
        num_steps: int = 16,
        hidden_channels: int = 256,
        num_bits: int = 8,
        preprocess: str = "none",
        channels_last: bool = False,
    ) -> None:
        require_positive(num_levels=num_levels, num_steps=num_steps, hidden_channels=hidden_channels)
        channels, height, width = shape = check_image_shape(image_shape, num_halvings=num_levels)
        make_preprocess = choose("preprocess", PREPROCESSES, preprocess)
        latent_shapes, levels = [], []
        for level in range(num_levels):
            channels, height, width = 4 * channels, height // 2, width // 2
            blocks = [nf.flows.GlowBlock(channels, hidden_channels) for _ in range(num_steps)]
            levels.append([*blocks, nf.flows.Squeeze()])
            channels = channels if level == num_levels - 1 else channels // 2
            latent_shapes.append((channels, height, width))
        coarsest_first = {
            "q0": [nf.distributions.DiagGaussian(shape) for shape in reversed(latent_shapes)],
            "flows": levels[::-1],
            "merges": [nf.flows.Merge() for _ in range(num_levels - 1)],
        }
        multiscale = Standardized(
            make_preprocess(shape[0]), nf.MultiscaleFlow(**coarsest_first, class_cond=False), latent_shapes
        )
        super().__init__(
            image_shape=shape,
            dequantize=Dequantize(num_bits),
            multiscale=multiscale,  # type: ignore[arg-type]
        )
        if channels_last:
            self.to(memory_format=torch.channels_last)


class Standardized(nn.Module):
    """A MultiscaleFlow of normflows with the contract of `flows.Multiscale`.

    All latents are standard normal, finest first.

    Args:
        preprocess: bijections before the flow.
        flow: a flow of normflows with Gaussian bases.
        latent_shapes: (C, H, W) of each latent, finest first.
    """

    def __init__(
        self,
        preprocess: Sequence[Bijection],
        flow: nf.MultiscaleFlow,
        latent_shapes: Sequence[tuple[int, int, int]],
    ) -> None:
        super().__init__()
        self.latent_shapes = list(latent_shapes)
        self.preprocess: Sequence[Bijection] = nn.ModuleList(preprocess)  # type: ignore[assignment]
        self.flow = flow

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[list[Tensor], Tensor]:
        """Map continuous images `(B, C, H, W)` to latents and log_det `(B,)` in nats."""
        total = x.new_zeros(len(x))
        for bijection in self.preprocess:
            x, log_det = bijection(x)
            total = total + log_det
        zs, log_det = self.flow.inverse_and_log_det(x)  # in normflows, "inverse" goes from data to latents
        total = total + log_det - sum(base.log_scale.sum() for base in self.flow.q0)
        eps = [(z - base.loc) * (-base.log_scale).exp() for z, base in zip(zs, self.flow.q0, strict=True)]
        return eps[::-1], total

    def inverse(self, zs: Sequence[Tensor], context: Context | None = None) -> Tensor:
        """Map latents, finest first, back to continuous images."""
        pairs = zip(reversed(zs), self.flow.q0, strict=True)
        x, _ = self.flow.forward_and_log_det([base.loc + base.log_scale.exp() * eps for eps, base in pairs])
        for bijection in reversed(self.preprocess):
            x = bijection.inverse(x)
        return x


register("normflows_glow", NormflowsGlow)
