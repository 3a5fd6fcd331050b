"""Who takes part: this project, and the libraries that are installed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

import flows
from flows.image_flow import ImageFlow
from scripts.benchmark.work import Shape

OURS = "this project"


class Peer(NamedTuple):
    """Where the model of a library is built, and what pip calls the library."""

    module: str
    builder: str
    package: str


PEERS = {
    "normflows": Peer("scripts.peers.normflows_glow", "NormflowsGlow", "normflows"),
    "nflows": Peer("scripts.peers.nflows_glow", "nflows_glow", "nflows"),
    "FrEIA": Peer("scripts.peers.freia_glow", "freia_glow", "FrEIA"),
}


def our_glow(**model: Any) -> ImageFlow:
    """Return this project's Glow with the parts that peers have too: no first layer, no limit on what networks read."""
    return flows.build("glow", **model, coupling="affine", scale="tanh4", conditioner="actnorm", top_prior="position")


def contestants() -> dict[str, Callable[..., ImageFlow]]:
    """Return the builders by name; a sentence says who is left out."""
    builders: dict[str, Callable[..., ImageFlow]] = {OURS: our_glow}
    for name, peer in PEERS.items():
        try:
            builders[name] = getattr(import_module(peer.module), peer.builder)
        except ModuleNotFoundError as error:
            print(f"{name} is left out, as {error.name} is not installed: pip install {peer.package}")
    return builders


def built(builder: Callable[..., ImageFlow], shape: Shape, images: Tensor, form: str) -> ImageFlow:
    """Return a model initialised on the images, with the same seed every time.

    Args:
        builder: of a contestant.
        shape: its sizes.
        images: uint8 `(B, C, H, W)`, on the device that the model is to be on.
        form: the memory format of its weights, "contiguous" or "channels_last".
    """
    torch.manual_seed(0)
    flow = builder(**shape.model).to(images.device)
    if form == "channels_last":
        flow.to(memory_format=torch.channels_last)
    flows.initialize(flow, images)
    return flow
