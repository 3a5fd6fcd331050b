from .bijection import Bijection as Bijection
from .chain import Chain as Chain
from .glow import Glow as Glow
from .image_flow import ImageFlow as ImageFlow
from .initialize import initialize as initialize
from .likelihood import bits_per_dim as bits_per_dim
from .realnvp import RealNVP as RealNVP
from .registry import build as build
