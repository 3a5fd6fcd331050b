"""Packages that only some commands need."""

import importlib.util


def check_installed(*modules: str, extra: str) -> None:
    """Check that packages are installed, before the work begins.

    Args:
        *modules: what is imported.
        extra: the extra of this project that brings them.

    Raises:
        ModuleNotFoundError: if one is not; the message says how to install it.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}: pip install -e '.[{extra}]'", name=module)
