"""The contestants: this project, and the libraries that are installed."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

import flows
from flows.image_flow import ImageFlow
from scripts.benchmark.equal_work import AS_PEERS
from scripts.benchmark.work import Shape

OURS = "this project"


class Peer(NamedTuple):
    """The module and function that build the model of a library, and the name of the library for pip."""

    module: str
    builder: str
    package: str


PEERS = {
    "normflows": Peer("scripts.peers.normflows_glow", "NormflowsGlow", "normflows"),
    "nflows": Peer("scripts.peers.nflows_glow", "nflows_glow", "nflows"),
    "FrEIA": Peer("scripts.peers.freia_glow", "freia_glow", "FrEIA"),
}


def our_glow(**model: Any) -> ImageFlow:
    """Return this project's Glow with only the parts that the peers have, too.

    There is no first layer, and no limit on what the networks read.
    """
    return flows.build("glow", **model, coupling="affine", scale="tanh4", conditioner="actnorm", top_prior="position")


def as_peer(peer: str) -> str:
    """Return the name of this project's parts with the choices of another library."""
    return f"{OURS} as {peer}"


def contestants() -> dict[str, Callable[..., ImageFlow]]:
    """Return the builders by name: this project, the libraries, and this project as each of them.

    Print which libraries are left out.
    """
    builders: dict[str, Callable[..., ImageFlow]] = {OURS: our_glow}
    for name, peer in PEERS.items():
        try:
            builders[name] = getattr(import_module(peer.module), peer.builder)
        except ModuleNotFoundError as error:
            print(f"{name} is left out, as {error.name} is not installed: pip install {peer.package}")
    return builders | {as_peer(name): AS_PEERS[name] for name in builders if name in AS_PEERS}


def built(builder: Callable[..., ImageFlow], shape: Shape, images: Tensor, form: str) -> ImageFlow:
    """Return a model that is initialised on the images, with the same seed every time.

    Args:
        builder: builds the model of a contestant.
        shape: sizes of the model.
        images: uint8 `(B, C, H, W)`, on the device where the model should be.
        form: memory format of the weights, "contiguous" or "channels_last".
    """
    torch.manual_seed(0)
    flow = builder(**shape.model).to(images.device)
    if form == "channels_last":
        flow.to(memory_format=torch.channels_last)
    flows.initialize(flow, images)
    return flow
