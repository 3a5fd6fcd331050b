"""Training flows with Lightning: steps, averaged weights, pictures, checkpoints, run folders.

The names, listed in `__init__.pyi`, are imported when they are first used, so that sampling and `--help` need not wait
for Lightning.
"""

import copyreg
import importlib
import sys

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Sweeps pickle train.py for SLURM, with the modules it uses: this module is pickled by its name, like other modules.
copyreg.pickle(type(sys.modules[__name__]), lambda module: (importlib.import_module, (module.__name__,)))
