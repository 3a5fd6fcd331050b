"""How well a score tells two sets apart."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


class Detection(NamedTuple):
    """Areas under the curves of a score, with 95% intervals over images drawn with replacement.

    Args:
        auroc: probability that an image from outside has the higher score.
        auprc: area under precision over recall, outside being what is looked for.
    """

    auroc: float
    auprc: float
    auroc_interval: tuple[float, float]
    auprc_interval: tuple[float, float]


def detection(inside: Tensor, outside: Tensor, num_bootstrap: int, seed: int = 0) -> Detection:
    """Measure a score that is high for images from outside.

    Args:
        inside: scores `(N,)` of images from inside.
        outside: scores `(M,)` of images from outside.
        num_bootstrap: number of draws for the intervals.
        seed: of these draws.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(num_bootstrap):
        some = (side[torch.randint(len(side), (len(side),), generator=generator)] for side in (inside, outside))
        drawn.append(areas(*some))
    ends = torch.quantile(torch.tensor(drawn, dtype=torch.double), torch.tensor([0.025, 0.975]).double(), dim=0)
    (auroc_low, auprc_low), (auroc_high, auprc_high) = ends.tolist()
    return Detection(*areas(inside, outside), (auroc_low, auroc_high), (auprc_low, auprc_high))


def areas(inside: Tensor, outside: Tensor) -> tuple[float, float]:
    """Return AUROC and AUPRC. Scores are replaced by their ranks, because torchmetrics would squash large ones."""
    scores = torch.cat((inside, outside))
    _, ranks = torch.unique(scores, return_inverse=True)
    parts = ranks.double() / max(1, int(ranks.max()))
    labels = torch.cat((torch.zeros(len(inside)), torch.ones(len(outside)))).long()
    return binary_auroc(parts, labels).item(), binary_average_precision(parts, labels).item()
