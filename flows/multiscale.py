"""The multi-scale architecture: levels of bijections, with half of the channels leaving after each."""

from collections.abc import Sequence

from torch import Tensor, nn

from flows.bijection import Bijection
from flows.bijections.reshape import channels_last
from flows.prior import Split, TopPrior


class Multiscale(nn.Module):
    """Levels of bijections with a Split between neighbours and a TopPrior at the end (RealNVP, section 3.6).

    All latents are standard normal under the model, so temperature and interpolation need no special case.

    Args:
        levels: one bijection a level, finest first.
        splits: one less than levels.
        top: the prior of what is left.
    """

    def __init__(self, levels: Sequence[Bijection], splits: Sequence[Split], top: TopPrior) -> None:
        super().__init__()
        self.levels: Sequence[Bijection] = nn.ModuleList(levels)  # type: ignore[assignment]
        self.splits: Sequence[Split] = nn.ModuleList(splits)  # type: ignore[assignment]
        self.top = top

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Map continuous images to latents.

        Args:
            x: `(B, C, H, W)`.
            label: `(B,)` int64 for a class-conditional flow.

        Returns:
            `zs`, one latent `(B, C_l, H_l, W_l)` a level, finest first, and log_det `(B,)` in nats.
        """
        *levels, last = self.levels
        zs = []
        total = x.new_zeros(x.shape[0])
        for level, split in zip(levels, self.splits, strict=True):
            x, level_log_det = level(x)
            x, eps, split_log_det = split(x)
            zs.append(eps)
            total = total + level_log_det + split_log_det
        x, level_log_det = last(x)
        eps, top_log_det = self.top(x, label)
        return [*zs, eps], total + level_log_det + top_log_det

    def inverse(self, zs: Sequence[Tensor], label: Tensor | None = None) -> Tensor:
        """Map latents, finest first, back to continuous images `(B, C, H, W)`."""
        *fine, coarse = zs
        *levels, last = self.levels
        x = last.inverse(self.top.inverse(channels_last(coarse), label))
        for level, split, eps in reversed(list(zip(levels, self.splits, fine, strict=True))):
            x = level.inverse(split.inverse(x, eps))
        return x
