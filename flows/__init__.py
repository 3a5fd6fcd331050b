"""Glow-style normalising flows for images: bijections, multi-scale models and their likelihoods.

This package does not know about configs, loggers or trainers; `flows.training` does.
"""

from flows.autograd import plain_autograd
from flows.bijection import Bijection
from flows.bijections.chain import Chain
from flows.files import load, save
from flows.image_flow import ImageFlow
from flows.initialize import initialize
from flows.likelihood import bits_per_dim
from flows.models.glow import Glow
from flows.models.realnvp import RealNVP
from flows.models.registry import build, register
from flows.models.tarflow import TarFlow
from flows.sampler import Sampler

__version__ = "0.1.0"

__all__ = [
    "Bijection",
    "Chain",
    "Glow",
    "ImageFlow",
    "RealNVP",
    "Sampler",
    "TarFlow",
    "bits_per_dim",
    "build",
    "initialize",
    "load",
    "plain_autograd",
    "register",
    "save",
]
