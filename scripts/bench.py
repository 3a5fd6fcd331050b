"""Time this project's Glow side by side with the Glows of other libraries, and compare it with its own floor.

Examples:
    python scripts/bench.py benchmarks                                         # everything: about 20 minutes
    python scripts/bench.py benchmarks --shapes 1x28x28 --rounds 3 --no-growth
    python scripts/bench.py benchmarks --compile --no-growth                   # and what torch.compile gains
    python scripts/bench.py benchmarks --works "sampling 1" --no-growth        # only one work is timed
    python scripts/bench.py benchmarks --shapes                                # only how time and memory grow

All contestants have the same levels, steps and networks of couplings, and the same number of parameters to 2%.
FrEIA has fixed rotations in place of 1x1 convolutions; these are counted as parameters, too. nflows and FrEIA have
standard normal priors. normflows has a mean and a width for each entry of the latents; these are not counted.
So this project does more work than FrEIA. The table of equal work compares each library with this project's parts in
its own arrangement: with its rotations or 1x1 convolutions, its priors and plain networks. When images are drawn, the
libraries also compute log-determinants, and normflows inverts its 1x1 convolutions for each batch. This project does
not: its sampler inverts them once.
Each contestant runs in the memory format and with the number of threads that suit it best; compiled, and in the growth,
in channels_last with all threads. The contestants take turns in each round, so the ratios hold even if the speed of the
machine varies.
The floor is the time of only the convolutions of this project's networks, forward and backward.
The folder gets bench.json and bench.md, written after each shape and each axis of the growth, and growth.png at the
end: if the benchmark is stopped, what was measured is there. A GPU is used if there is one.
"""

import argparse
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from flows.training import keep_freed_memory, print_whatever_comes, to_json
from scripts.benchmark.comparison import compare
from scripts.benchmark.contestants import contestants
from scripts.benchmark.growth import measure_growth, plot_growth
from scripts.benchmark.memory import fail_rather_than_be_killed
from scripts.benchmark.report import growth_table, markdown, tables
from scripts.benchmark.work import SHAPES, WORKS
from scripts.files.new_folder import make_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    told = parse(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (told.folder / "bench.json").exists():
        sys.exit(f"error: {told.folder} holds a benchmark already: give another folder, or rename or remove this one")
    if told.compile and device.type == "cpu" and not has_compiler():
        sys.exit("error: --compile needs a C++ compiler, and there is none: install g++, or leave out --compile")
    try:
        make_folder(told.folder)
    except OSError as error:
        sys.exit(f"error: {error}")
    if device.type == "cpu":
        fail_rather_than_be_killed()
        keep_freed_memory()  # as train.py does
    console = Console()
    report: dict[str, Any] = {"machine": describe(device), "command": shlex.join(["python", *sys.argv]), "shapes": []}
    console.print(report["machine"])
    builders = contestants()
    with console.status("") as status:
        for name in told.shapes:
            result = compare(
                name,
                SHAPES[name],
                builders,
                rounds=told.rounds,
                seconds=told.seconds,
                device=device,
                works=told.works,
                compile=told.compile,
                tell=status.update,
            )
            report["shapes"].append(result)
            for rows in tables(result):
                console.print(as_rich(rows))
            write(report, told.folder)
        if told.growth:
            for report["growth"] in measure_growth(builders, told.rounds, device, tell=status.update):
                write(report, told.folder)
            console.print(as_rich(growth_table(report["growth"])))
            plot_growth(report["growth"], told.folder / "growth.png")
    console.print(f"{told.folder}: bench.json, bench.md{', growth.png' if told.growth else ''}")


def write(report: dict[str, Any], folder: Path) -> None:
    """Write what is known so far."""
    (folder / "bench.json").write_text(to_json(report))
    (folder / "bench.md").write_text(markdown(report))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the results")
    parser.add_argument(
        "--shapes", nargs="*", choices=SHAPES, default=list(SHAPES), help="(default: all; none: only the growth)"
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each work is timed (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long each time (default: 0.5)")
    parser.add_argument("--no-growth", dest="growth", action="store_false", help="leave out the growth with size")
    parser.add_argument("--compile", action="store_true", help="measure all of them compiled, too: many minutes more")
    told = parser.parse_args(arguments)
    if not 0 < told.seconds < math.inf:
        parser.error(f"--seconds is a number above 0, got {told.seconds}")
    if told.rounds < 2:
        parser.error(f"--rounds is at least 2, as a spread takes two, got {told.rounds}")
    return told


def has_compiler() -> bool:
    """Return whether torch.compile finds a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def describe(device: torch.device) -> str:
    """Return the machine, the date and the versions in one line."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    packages = ["torch", "normflows", "nflows", "FrEIA"]
    versions = ", ".join(f"{package} {found}" for package in packages if (found := installed(package)))
    return f"{name}, {os.cpu_count()} cores, {date.today()}, Python {platform.python_version()}, {versions}"


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def installed(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def as_rich(rows: list[list[str]]) -> Table:
    """Return rows as a table for the terminal. The first row is the header."""
    header, *body = rows
    table = Table(*header)
    for row in body:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    print_whatever_comes()
    main()
