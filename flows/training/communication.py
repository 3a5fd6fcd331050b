"""A model of what the devices of a run send to each other in a step, and how long they wait for it.

DDP averages the gradients in buckets. In a ring of N devices, each one sends 2 (N - 1) / N times the bytes of all
gradients, and receives as many (Patarasuk & Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
"""

import math

from flows.training.cost import BYTES

BUCKET = 25 * 2**20
"""Bytes of gradients that DDP averages at once (its `bucket_cap_mb`)."""

LATENCY = 10e-6
"""Seconds that a message takes however short it is: an assumption. A bucket takes 2 log2(N) of them, as in a tree."""

BACKWARD = 2 / 3
"""Part of the computing of a step that is the backward pass, in which gradients are sent as soon as they are there."""


def bytes_sent(parameters: int, devices: int) -> float:
    """Return the bytes that each of so many devices sends in a step, which are as many as it receives.

    Args:
        parameters: number of values that are trained, in float32.
        devices: N, at least 1.
    """
    return 2 * (devices - 1) / devices * BYTES * parameters


def exchange_seconds(parameters: int, devices: int, network_gb: float) -> float:
    """Return the seconds in which the gradients of a step are exchanged, at `network_gb` GB/s.

    Args:
        parameters: as for `bytes_sent`.
        devices: as for `bytes_sent`.
        network_gb: 1e9 bytes per second that a device sends while it receives as many.
    """
    messages = 2 * math.ceil(math.log2(devices)) * math.ceil(BYTES * parameters / BUCKET)
    return bytes_sent(parameters, devices) / (network_gb * 1e9) + messages * LATENCY


def waiting(compute: float, exchange: float, num_batches: int = 1) -> tuple[float, float]:
    """Return which part of a step, 0 to 1, is waiting: if all of the backward pass overlaps, and if nothing does.

    Args:
        compute: seconds of computing in a step.
        exchange: seconds in which its gradients are exchanged.
        num_batches: whose gradients make one step; they are exchanged in the backward pass of the last one.
    """
    least = max(0.0, exchange - BACKWARD * compute / num_batches)
    return least / (compute + least), exchange / (compute + exchange)
