"""Latents near those of an image: turn them towards random directions."""

import math
from collections.abc import Sequence

from torch import Tensor

from flows.check_inputs import check_angle
from flows.image_flow import ImageFlow


def turned(flow: ImageFlow, zs: Sequence[Tensor], angle: float, seeds: Sequence[int]) -> list[Tensor]:
    """Return latents turned towards latents that are drawn at random: cos(angle) z + sin(angle) eps.

    Standard normal latents are standard normal again after any turn. At 0 degrees they stay as they are, and at 90
    degrees nothing of them is left.

    Args:
        flow: to which the latents belong.
        zs: latents `(B, C_l, H_l, W_l)`, finest first; not changed.
        angle: degrees, from 0 to 90.
        seeds: one per image.

    Raises:
        ValueError: if the angle is out of range, or if there is not one seed per image.
    """
    radians = math.radians(check_angle(angle))
    if len(seeds) != len(zs[0]):
        raise ValueError(f"there are {len(zs[0])} images and {len(seeds)} seeds: give one seed per image")
    return [
        math.cos(radians) * z + math.sin(radians) * eps for z, eps in zip(zs, flow.draw_latents(seeds), strict=True)
    ]
