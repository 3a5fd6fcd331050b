"""Training flows with Lightning: steps, averaged weights, pictures, checkpoints, run folders.

The names, listed in `__init__.pyi`, are imported when they are first used, so that sampling and `--help` need not wait
for Lightning.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
