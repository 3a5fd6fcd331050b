"""The multi-scale architecture: levels of bijections, with half of the channels leaving after each."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from flows.autoregressive_prior import AutoregressivePrior
from flows.bijection import Bijection
from flows.bijections.elementwise import ElementwiseMap
from flows.bijections.reshape import channels_last
from flows.check_inputs import check_seeds, check_temperature
from flows.context import Context
from flows.guidance import Guidance
from flows.prior import Split, TopPrior


class Multiscale(nn.Module):
    """Levels of bijections with a Split between neighbours and a TopPrior at the end (RealNVP, section 3.6).

    All latents are standard normal under the model, so temperature and interpolation need no special case.

    Args:
        levels: one bijection per level, finest first.
        splits: one less than levels.
        top: the prior of the channels that remain after the last level.
        latent_shapes: (C, H, W) of each latent, finest first; may be None if nothing is split off.

    Raises:
        ValueError: if there are splits and latent_shapes is missing, or if it does not have one shape per level.
    """

    def __init__(
        self,
        levels: Sequence[Bijection],
        splits: Sequence[Split],
        top: TopPrior | AutoregressivePrior,
        latent_shapes: Sequence[tuple[int, int, int]] | None = None,
    ) -> None:
        super().__init__()
        if latent_shapes is None and not splits:
            latent_shapes = [top.shape]
        if latent_shapes is None or len(latent_shapes) != len(levels) or len(splits) != len(levels) - 1:
            raise ValueError(
                f"{len(levels)} levels have a split between neighbours and a latent shape (C, H, W) each, got "
                f"{len(splits)} splits and {latent_shapes}"
            )
        self.latent_shapes = list(latent_shapes)
        self.levels: Sequence[Bijection] = nn.ModuleList(levels)  # type: ignore[assignment]
        self.splits: Sequence[Split] = nn.ModuleList(splits)  # type: ignore[assignment]
        self.top = top

    def forward(self, x: Tensor, context: Context | None = None) -> tuple[list[Tensor], Tensor]:
        """Map continuous images to latents.

        Args:
            x: `(B, C, H, W)`.
            context: the context of the flow; see `flows.context`.

        Returns:
            `zs`, one latent `(B, C_l, H_l, W_l)` per level, finest first, and log_det `(B,)` in nats.
        """
        zs, x, log_det = self.below_top(x, context)
        eps, top_log_det = self.top(x, context)
        return [*zs, eps], log_det + top_log_det

    def below_top(self, x: Tensor, context: Context | None = None) -> tuple[list[Tensor], Tensor, Tensor]:
        """Do what `forward` does before the prior at the top.

        Returns:
            the latents of all levels but the last, the input of the prior at the top, and log_det `(B,)` so far.
        """
        *levels, last = self.levels
        zs = []
        total = x.new_zeros(x.shape[0])
        for level, split in zip(levels, self.splits, strict=True):
            x, level_log_det = level(x, *level.read(context))
            x, eps, split_log_det = split(x, context)
            zs.append(eps)
            total = total + level_log_det + split_log_det
        x, level_log_det = last(x, *last.read(context))
        return zs, x, total + level_log_det

    def inverse(self, zs: Sequence[Tensor], context: Context | None = None, guidance: Guidance | None = None) -> Tensor:
        """Map latents, finest first, back to continuous images `(B, C, H, W)`."""
        *fine, coarse = zs
        *levels, last = self.levels
        guided = () if guidance is None else (guidance,)
        x = last.inverse(self.top.inverse(channels_last(coarse), context, *guided), *last.read(context))
        for level, split, eps in reversed(list(zip(levels, self.splits, fine, strict=True))):
            x = level.inverse(split.inverse(x, eps, context, *guided), *level.read(context))
        return x

    def check_guidance(self) -> None:
        """Check that guidance can act on the priors.

        Raises:
            ValueError: if no prior reads the context, or if a map that does is not affine.
        """
        if not self.top.reads_context and not any(split.context_channels for split in self.splits):
            raise ValueError("guidance acts on priors, and those of this flow read no labels: leave guidance out")
        for part in self.top.modules():
            if isinstance(part, ElementwiseMap) and not part.is_affine:
                part.mean_and_log_sigma(torch.empty(0))

    def log_prob(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Return the log density of continuous `x` `(B, C, H, W)`: `(B,)` in nats."""
        zs, log_det = self(x, context)
        return log_det + standard_normal_log_prob(zs)

    @torch.no_grad()
    def sample(self, seeds: Iterable[int], temperature: float = 1.0, context: Context | None = None) -> Tensor:
        """Draw one continuous image for each seed: `(B, C, H, W)`.

        Args:
            seeds: one whole number for each image, from 0 to 2^32 - 1.
            temperature: factor on the standard deviation of all latents.
            context: as for `forward`.

        Raises:
            ValueError: if seeds or temperature are not as above.
        """
        factor = check_temperature(temperature)
        zs = draw_latents(seeds, self.latent_shapes, next(self.parameters(), torch.empty(())))
        return self.inverse([factor * eps for eps in zs], context)


def draw_latents(seeds: Iterable[int], latent_shapes: Sequence[tuple[int, int, int]], like: Tensor) -> list[Tensor]:
    """Draw standard normal latents, finest first: one generator and one draw for each seed, cut into levels.

    Args:
        seeds: one whole number for each image, from 0 to 2^32 - 1; the same seed gives the same latents in any batch.
        latent_shapes: (C, H, W) of each latent, finest first.
        like: a tensor; the latents get its device and precision.

    Raises:
        ValueError: if seeds are not as above.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in check_seeds(seeds)]
    sizes = [math.prod(shape) for shape in latent_shapes]
    flat = torch.empty(len(generators), sum(sizes), dtype=torch.float32, device="cpu")
    for row, generator in zip(flat, generators, strict=True):
        row.normal_(generator=generator)
    parts = torch.split(flat.to(device=like.device, dtype=like.dtype), sizes, dim=1)
    return [part.view(-1, *shape) for part, shape in zip(parts, latent_shapes, strict=True)]


def standard_normal_log_prob(zs: Sequence[Tensor]) -> Tensor:
    """Return the log density of latents under N(0, I): `(B,)` in nats."""
    squares = torch.stack([z.square().sum((1, 2, 3)) for z in zs]).sum(0)
    return -0.5 * (squares + sum(z[0].numel() for z in zs) * math.log(2 * math.pi))
