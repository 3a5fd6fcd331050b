"""Which levels of a flow carry what: keep the latents of some levels, and draw the others anew."""

from collections.abc import Iterable, Sequence

from torch import Tensor

from flows.check_inputs import check_temperature
from flows.image_flow import ImageFlow


def resampled(
    flow: ImageFlow, zs: Sequence[Tensor], levels: Iterable[int], seeds: Sequence[int], temperature: float = 1.0
) -> list[Tensor]:
    """Return latents in which those of some levels are drawn anew.

    Args:
        flow: to which the latents belong.
        zs: latents `(B, C_l, H_l, W_l)`, finest first; not changed.
        levels: which ones are drawn, 0 for the finest.
        seeds: one per image.
        temperature: factor on the standard deviation of what is drawn.

    Raises:
        ValueError: if there is no such level, or not one seed per image.
    """
    chosen = set(levels)
    if not chosen <= set(range(len(zs))):
        raise ValueError(f"levels are between 0 (finest) and {len(zs) - 1}, got {sorted(chosen)}")
    if len(seeds) != len(zs[0]):
        raise ValueError(f"there are {len(zs[0])} images and {len(seeds)} seeds: give one seed per image")
    factor, drawn = check_temperature(temperature), flow.draw_latents(seeds)
    return [factor * new if level in chosen else old for level, (old, new) in enumerate(zip(zs, drawn, strict=True))]
