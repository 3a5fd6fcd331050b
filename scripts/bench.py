"""Time this project's Glow against that of other libraries on the same work, side by side, and against its own floor.

Examples:
    python scripts/bench.py benchmarks                                         # all of it: about 20 minutes
    python scripts/bench.py benchmarks --shapes 1x28x28 --rounds 3 --no-growth

Contestants are alike: the same levels, steps and networks of couplings, and the same number of parameters to 2%.
FrEIA has fixed rotations, counted too, for 1x1 convolutions; nflows and FrEIA have standard normal priors, normflows
has a mean and a width for each entry of the latents, which are not counted. Each runs in the memory format and with
the number of threads that suit it best. Rounds take turns, so that ratios hold where the machine's speed does not.
The floor is the convolutions of this project's networks, forward and backward, and nothing else. The folder gets
bench.json, bench.md and growth.png. A GPU is used where there is one.
"""

import argparse
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # for scripts.*, wherever this is called from

from flows.training import keep_freed_memory, print_whatever_comes, to_json
from scripts.benchmark.comparison import compare
from scripts.benchmark.contestants import contestants
from scripts.benchmark.growth import measure_growth, plot_growth
from scripts.benchmark.memory import fail_rather_than_be_killed
from scripts.benchmark.report import fact_table, markdown, time_table
from scripts.benchmark.work import SHAPES


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    told = parse(arguments)
    told.folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
                tell=status.update,
            )
            report["shapes"].append(result)
            for rows in time_table(result), fact_table(result):
                console.print(as_rich(rows))
            write(report, told.folder)
        if told.growth:
            report["growth"] = measure_growth(builders, told.rounds, device, tell=status.update)
            write(report, told.folder)
            plot_growth(report["growth"], told.folder / "growth.png")
    console.print(f"{told.folder}: bench.json, bench.md{', growth.png' if told.growth else ''}")


def write(report: dict[str, Any], folder: Path) -> None:
    """Write what is known so far."""
    (folder / "bench.json").write_text(to_json(report))
    (folder / "bench.md").write_text(markdown(report))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for the results")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each work is timed (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long each time (default: 0.5)")
    parser.add_argument("--no-growth", dest="growth", action="store_false", help="leave out the growth with size")
    told = parser.parse_args(arguments)
    if told.rounds < 2:
        parser.error(f"--rounds is at least 2, as a spread takes two, got {told.rounds}")
    return told


def describe(device: torch.device) -> str:
    """Return the machine, the date and the versions in a line."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    packages = ["torch", "normflows", "nflows", "FrEIA"]
    versions = ", ".join(f"{package} {found}" for package in packages if (found := installed(package)))
    return f"{name}, {os.cpu_count()} cores, {date.today()}, Python {platform.python_version()}, {versions}"


def processor() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def installed(package: str) -> str | None:
    """Return the version of a package, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def as_rich(rows: list[list[str]]) -> Table:
    """Return rows as a table of the terminal, the first being its header."""
    header, *body = rows
    table = Table(*header)
    for row in body:
        table.add_row(*row)
    return table


if __name__ == "__main__":
    print_whatever_comes()
    main()
