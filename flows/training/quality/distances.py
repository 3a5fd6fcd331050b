"""How far samples are from real images, in features of both; torch-fidelity computes this."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

from torch import Tensor

KERNEL_SUBSET = 1000
"""Number of images in each subset over which the kernel distance is averaged, or all if there are fewer."""

DISTANCES_AT_ONCE = 1000
"""Images whose distances to all others are in memory at a time."""


class Distances(NamedTuple):
    """How far a set of samples is from a set of real images."""

    fd: float
    """Frechet distance of two Gaussians (Heusel et al. 2017): 0 for equal means and covariances."""
    kid: float
    """Kernel distance (Binkowski et al. 2018), unbiased: about 0 for sets of the same distribution."""
    kid_error: float
    """Standard deviation of the kernel distance over subsets."""
    precision: float
    """Part of the samples within the real images' neighbourhoods (Kynkaanniemi et al. 2019, k=3)."""
    recall: float
    """Part of the real images within the samples' neighbourhoods."""


def distances(samples: Tensor, real: Tensor) -> Distances:
    """Compare features of samples `(N, F)` with those of real images `(M, F)`.

    Raises:
        ModuleNotFoundError: if torch-fidelity is not installed.
        ValueError: if there are not more images than features, because a covariance is then singular.
    """
    check_enough(len(samples), samples.shape[1], "samples")
    check_enough(len(real), real.shape[1], "real images")
    check_installed("torch_fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    samples, real = samples.double().cpu(), real.double().cpu()
    statistics = (fid_features_to_statistics(features) for features in (samples, real))
    frechet = fid_statistics_to_metric(*statistics, verbose=False)
    subset = min(KERNEL_SUBSET, len(samples), len(real))
    kernel = kid_features_to_metric(samples, real, kid_subset_size=subset, verbose=False)
    in_parts = {"save_cpu_ram": True, "prc_batch_size": DISTANCES_AT_ONCE}
    neighbours = prc_features_to_metric(samples.float(), real.float(), verbose=False, **in_parts)
    return Distances(
        fd=frechet["frechet_inception_distance"],
        kid=kernel["kernel_inception_distance_mean"],
        kid_error=kernel["kernel_inception_distance_std"],
        precision=neighbours["precision"],
        recall=neighbours["recall"],
    )


def check_installed(*modules: str) -> None:
    """Check that packages for measuring are installed, before the work begins.

    Raises:
        ModuleNotFoundError: if one is not; the message says how to install it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}: pip install -e '.[quality]'", name=module)


def check_enough(count: int, num_features: int, of_what: str) -> None:
    """Check that there are more images than features.

    Raises:
        ValueError: if not.
    """
    if count <= num_features:
        raise ValueError(
            f"{count} {of_what} are too few for {num_features} features: distances need more images than features "
            "(10,000 are usual), so take more images, or features of fewer numbers (docs/quality.md)"
        )
