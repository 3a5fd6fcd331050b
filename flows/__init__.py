"""Glow-style normalising flows for images: bijections, multi-scale models and their likelihoods.

This package knows no config, logger, file or trainer; `flows.training` does. The names, listed in `__init__.pyi`, are
imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
