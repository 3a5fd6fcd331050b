"""The user's own modules, which a command imports before it builds anything."""

import importlib
import importlib.util
import shlex
import sys
from pathlib import Path
from typing import Any

from flows.arguments import did_you_mean


def import_modules(imports: Any) -> None:
    """Import what `imports=[...]` names: modules that register models or couplings, or hold a data source.

    Args:
        imports: a list of names of modules and of paths of `.py` files, relative to the current folder. A file
            `parts/my_source.py` becomes the module `my_source`, and can import the files in its folder.

    Raises:
        ValueError: if `imports` is not a list of texts, or if a file has the name of another module.
        FileNotFoundError: if there is no such file.
        ImportError: if there is no such module, or if it fails while it is imported.
    """
    if not isinstance(imports, list) or not all(isinstance(one, str) and one for one in imports):
        example = f"[{imports}]" if isinstance(imports, str) and imports else "[my_model.py]"
        raise ValueError(
            f"imports is a list of modules and of .py files, got {imports!r}: write {shlex.quote(f'imports={example}')}"
        )
    for one in imports:
        is_file = one.endswith(".py") or "/" in one
        _import(_module_of_file(Path(one).expanduser()) if is_file else one, one)


def _module_of_file(path: Path) -> str:
    """Return the name under which a file can be imported, here and in processes that are started later."""
    if not path.is_file() or path.suffix != ".py":
        beside = [str(found) for found in path.parent.glob("*.py")]
        wrong = "is no .py file" if path.exists() else f"does not exist{did_you_mean(str(path), beside)}"
        raise FileNotFoundError(f"imports: {path} {wrong}: give the path of a .py file, as seen from {Path.cwd()}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last: what is installed, or belongs to the project, comes first
    importlib.invalidate_caches()  # the file may be new
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if found is None:
        raise ValueError(f"imports: {path}: the name of the file can be no name of a module: give it another one")
    if found.origin is None or Path(found.origin).resolve() != path.resolve():
        raise ValueError(
            f"imports: {path} would be the module {path.stem}, but that is {found.origin or 'another one'}: give the "
            "file another name"
        )
    return path.stem


def _import(module: str, told: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            beside = did_you_mean(f"{module}.py", [found.name for found in Path.cwd().glob("*.py")])
            raise ImportError(
                f"imports: there is no module {told}{beside}: give the name of one that Python finds, or the path of a "
                ".py file"
            ) from error
        raise ImportError(f"imports: {told} cannot be imported ({type(error).__name__}: {error})") from error
