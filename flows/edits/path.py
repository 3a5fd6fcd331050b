"""Ways between images, through the latents between theirs."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from flows.arguments import require_positive


def path_through(waypoints: Sequence[Sequence[Tensor]], num_steps: int, *, straight: bool = False) -> list[Tensor]:
    """Return latents along a way that leads from one point to the next.

    Latents are standard normal, so nearly all of them have about the same norm. A way on the sphere keeps it. A
    straight way leads nearer to the mode, through images of a lower temperature. (White 2016, arXiv:1609.04468.)

    Args:
        waypoints: at least two points, each the latents `(1, C_l, H_l, W_l)` of one image, finest first.
        num_steps: steps from each point to the next.
        straight: whether the way is straight, not on the sphere. The angle is that of all levels together.

    Returns:
        Latents `(N, C_l, H_l, W_l)` with N = 1 + num_steps * (len(waypoints) - 1); the waypoints are among them.

    Raises:
        ValueError: if there are fewer than two points, or no step.
    """
    require_positive(num_steps=num_steps)
    if len(waypoints) < 2:
        raise ValueError(f"a way leads through at least two images, got {len(waypoints)}")
    along: list[list[Tensor]] = []
    for start, end in pairwise(waypoints):
        weights = [weights_at(start, end, step / num_steps, straight) for step in range(num_steps)]
        along += [[a * one + b * other for one, other in zip(start, end, strict=True)] for a, b in weights]
    along.append([*waypoints[-1]])
    return [torch.cat(level) for level in zip(*along, strict=True)]


def weights_at(start: Sequence[Tensor], end: Sequence[Tensor], part: float, straight: bool) -> tuple[float, float]:
    """Return the weights of both ends at a part of the way, 0 to 1."""
    one, other = (torch.cat([z.detach().flatten() for z in zs]).double() for zs in (start, end))
    cosine = float(torch.nn.functional.cosine_similarity(one, other, dim=0).clamp(-1, 1))
    angle = math.acos(cosine)
    if straight or math.sin(angle) < 1e-6:
        return 1 - part, part
    return math.sin((1 - part) * angle) / math.sin(angle), math.sin(part * angle) / math.sin(angle)
