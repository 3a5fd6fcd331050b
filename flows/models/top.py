"""The choices of `top_prior`: what maps the coarsest latents to N(0, I)."""

from flows.arguments import choose, require_positive
from flows.autoregressive_prior import AutoregressivePrior
from flows.prior import TopPrior

TOP_PRIORS = (*TopPrior.KINDS, "autoregressive")
"""Choices of `top_prior`: Gaussians, or autoregressive transformers."""


HEAD = 32
"""Channels of a head of the transformers."""


def make_top(
    shape: tuple[int, int, int],
    kind: str,
    num_classes: int | None,
    context_channels: int,
    *,
    prior_blocks: int,
    prior_layers: int,
    prior_width: int,
    input_limit: float | None,
) -> TopPrior | AutoregressivePrior:
    """Return the prior of latents of shape (C, H, W).

    Args:
        shape: of the latents.
        kind: one of `TOP_PRIORS`.
        num_classes: number of labels that it reads; None for none.
        context_channels: E, the number of features that it reads; 0 for none.
        prior_blocks: transformers of the autoregressive prior.
        prior_layers: layers of each.
        prior_width: channels of each, a multiple of `HEAD`.
        input_limit: as for `limited`.

    Raises:
        ValueError: if an argument is out of range.
    """
    require_positive(prior_blocks=prior_blocks, prior_layers=prior_layers, prior_width=prior_width)
    choose("top_prior", dict.fromkeys(TOP_PRIORS), kind)
    if kind != "autoregressive":
        return TopPrior(shape, kind, num_classes, context_channels)
    if prior_width % HEAD:
        raise ValueError(f"prior_width is a multiple of {HEAD}, the width of a head, got {prior_width}")
    return AutoregressivePrior(
        shape,
        num_blocks=prior_blocks,
        num_layers=prior_layers,
        width=prior_width,
        num_heads=prior_width // HEAD,
        num_classes=num_classes,
        context_channels=context_channels,
        input_limit=input_limit,
    )
