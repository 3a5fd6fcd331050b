"""Train several configs one after the other, for the same time or on the same number of images, and compare them.

Examples:
    python scripts/race.py races/five --seconds 300 --seeds 0,1,2 \\
        "ours: experiment=fashion_mnist_5min" \\
        "normflows: experiment=fashion_mnist_5min model=normflows_glow optimizer=adam optimizer.lr=3e-3"
    python scripts/race.py races/tune --images 50000 --no-test "2e-3: optimizer.lr=2e-3" "4e-3: optimizer.lr=4e-3"

A contestant is a name and the arguments for train.py. Only training counts: validation, tests and starting do not. The
folder gets a run folder for each contestant and seed, and race.json, race.md and race.png. race.md also says how many
minutes of training each contestant took to become as good as another one is at its end; --validations says how closely
this is known. If a race was stopped, the same command continues it. Other settings need another folder. To choose
settings, race with --no-test: this compares by validation bits/dim, and does not read the test set. Then race once with
the test.
"""

import argparse
import math
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.errors import HydraException

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that scripts.* are found from any folder

from flows.training import Run, print_whatever_comes, read_run, to_json
from flows.training.command.explain import explain
from flows.training.command.names import as_text
from flows.training.command.overrides import tidy
from scripts.racing.child import STOPPED, run_to_end
from scripts.racing.earlier import check_rows, check_run, settings

TRAIN = Path(__file__).parent.parent / "train.py"
BUSY = 0.5
"""If the load average is above this value, the machine does other work, too."""


@dataclass
class Contestant:
    """A config with a name, and its runs."""

    name: str
    overrides: list[str]
    runs: list[Run]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the race that the command line describes."""
    told = parse(arguments)
    contestants = [Contestant(name, overrides, []) for name, overrides in told.contestants]
    told.folder.mkdir(parents=True, exist_ok=True)
    with alone_on_this_machine():
        check_folder(told)
        for seed in told.seeds:
            for contestant in contestants:
                print(f"\n{title(contestant.name, seed)}", flush=True)
                contestant.runs.append(train(contestant, seed, told))
    (told.folder / "race.json").write_text(to_json([result(contestant) for contestant in contestants]))
    text = markdown(contestants)
    (told.folder / "race.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    plot(contestants, told.folder / "race.png")
    print(f"{told.folder}: race.json, race.md, race.png")
    if any(not run.is_complete for contestant in contestants for run in contestant.runs):
        sys.exit(1)


def check_folder(told: argparse.Namespace) -> None:
    """End the process if the race would replace results of others, or go on with runs of other settings."""
    titles = [title(name, seed) for name, _ in told.contestants for seed in told.seeds]
    try:
        check_rows(told.folder / "race.json", titles)
        for name, overrides in told.contestants:
            for seed in told.seeds:
                check_run(run_folder(told, name, seed), [*overrides, *limits(told), f"seed={seed}"])
    except ValueError as error:
        sys.exit(f"error: {error}")


def train(contestant: Contestant, seed: int, told: argparse.Namespace) -> Run:
    """Train a contestant with a seed, and return its run. A complete run that train.py refuses gives no figures."""
    folder, name = run_folder(told, contestant.name, seed), title(contestant.name, seed)
    command = [sys.executable, str(TRAIN), *contestant.overrides, *limits(told), f"seed={seed}"]
    status = run_to_end([*command, f"hydra.run.dir={folder}", "resume=auto"])
    if status == STOPPED:
        print("interrupted: the same command goes on from there", file=sys.stderr)
        sys.exit(STOPPED)
    run = read_run(folder, name)
    refused = Run(name, "refused", f"train.py ended with status {status} in {folder}, see its message")
    return refused if status and run.is_complete else run


def title(name: str, seed: int) -> str:
    """Return what the run of a contestant is called."""
    return f"{name}, seed {seed}"


def run_folder(told: argparse.Namespace, name: str, seed: int) -> Path:
    """Return the run folder of a contestant with a seed."""
    return told.folder / name / f"seed-{seed}"


@contextmanager
def alone_on_this_machine() -> Iterator[None]:
    """Keep other races away from this machine, and warn if the machine does other work."""
    path = Path(tempfile.gettempdir()) / "image-flows-race.lock"
    lock = FileLock(path, mode=0o666)  # all users of the machine share it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        sys.exit("error: another race is on this machine: wait for its end, two at once would falsify both")
    except OSError as error:
        sys.exit(
            f"error: {path}, which keeps a second race away, cannot be opened ({error.strerror}): let its owner remove "
            "it, or make its folder writable"
        )
    if (load := os.getloadavg()[0]) > BUSY:
        print(f"warning: this machine is busy (load {load:.1f}): whatever runs now will slow the first contestant down")
    try:
        yield
    finally:
        lock.release()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for everything that the race writes")
    parser.add_argument("contestants", nargs="+", type=contestant, metavar="'NAME: OVERRIDES'")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--seconds", type=float, help="of training for each run")
    limit.add_argument("--images", type=int, help="for each run")
    parser.add_argument("--seeds", type=numbers, default=[0], help="such as 0,1,2: a run with each (default: 0)")
    parser.add_argument("--validations", type=int, default=10, help="about how many per run of --seconds (default: 10)")
    parser.add_argument("--no-test", dest="test", action="store_false", help="leave the test set unread")
    told = parser.parse_intermixed_args(arguments)
    names = [name for name, _ in told.contestants]
    if len({*names}) < len(names):
        parser.error("each contestant needs a name of its own")
    if len({*told.seeds}) < len(told.seeds) or min(told.seeds) < 0:
        parser.error(f"--seeds are different numbers of at least 0, got {','.join(map(str, told.seeds))}")
    if told.validations < 1:
        parser.error(f"--validations is at least 1, got {told.validations}")
    option, value = ("--images", told.images) if told.seconds is None else ("--seconds", told.seconds)
    if not 0 < value < math.inf:
        parser.error(f"{option} is a number above 0, got {value:g}")
    return told


def numbers(text: str) -> list[int]:
    """Return the numbers of a list such as "0,1,2"."""
    return [int(number) for number in text.split(",")]


def contestant(text: str) -> tuple[str, list[str]]:
    """Return the name and the overrides of a contestant.

    Raises:
        ArgumentTypeError: if the text has another form.
    """
    name, colon, overrides = text.partition(":")
    if not colon or not name.strip() or "/" in name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 'NAME: OVERRIDES'")
    try:
        words = tidy([as_text(word) for word in shlex.split(overrides)])
        settings(words)
    except (ValueError, HydraException) as error:
        raise argparse.ArgumentTypeError(f"{name.strip()}: {explain(error)}") from error
    return name.strip(), words


def limits(told: argparse.Namespace) -> list[str]:
    """Return the overrides that make all runs of a race equally long."""
    overrides = ["trainer.max_epochs=-1", "trainer.max_steps=-1", "trainer.max_time=null", f"test={told.test}"]
    if told.images is not None:
        return [*overrides, "callbacks.throughput.max_seconds=null", f"callbacks.throughput.max_images={told.images}"]
    minutes, seconds = divmod(max(1, round(told.seconds / told.validations)), 60)
    return [
        *overrides,
        "callbacks.throughput.max_images=null",
        f"callbacks.throughput.max_seconds={told.seconds}",
        "trainer.check_val_every_n_epoch=null",
        f"trainer.val_check_interval='00:{minutes // 60:02}:{minutes % 60:02}:{seconds:02}'",
    ]


def result(contestant: Contestant) -> dict[str, Any]:
    """Return all results of a contestant."""
    return {
        "name": contestant.name,
        "overrides": contestant.overrides,
        "runs": [
            {**run.summary, "status": run.status, "name": run.name, "curve": [point._asdict() for point in run.curve]}
            for run in contestant.runs
        ],
    }


def markdown(contestants: Sequence[Contestant]) -> str:
    """Return the table of a race, with one row per contestant.

    A row has the means over the complete runs, and the test (or else validation) bits/dim of each seed. A mean is
    "not finite" if the result of one of them is not.
    """
    columns = ["contestant", "parameters", "images", "images/s", "val bits/dim", "gain", "test bits/dim", "each seed"]
    with_fd = any(mean(contestant, "val_fd") is not None for contestant in contestants)
    columns += ["val FD"] * with_fd
    lines = [columns, ["---"] * len(columns)]
    first = mean(contestants[0], "val_bits_per_dim")
    for contestant in contestants:
        val, test = mean(contestant, "val_bits_per_dim"), mean(contestant, "test_bits_per_dim")
        error = mean(contestant, "test_standard_error")
        lines.append(
            [
                contestant.name,
                shown(mean(contestant, "parameters"), ",.0f"),
                shown(mean(contestant, "images"), ",.0f"),
                shown(mean(contestant, "images_per_second"), ".0f"),
                shown(val, ".3f"),
                shown(None if val is None or first is None else first - val, "+.3f"),
                shown(test, ".3f") if error is None or math.isnan(error) else f"{test:.3f} ± {error:.3f}",
                ", ".join(map(of_seed, contestant.runs)),
                *[shown(mean(contestant, "val_fd"), ".2f")] * with_fd,
            ]
        )
    failed = [run for contestant in contestants for run in contestant.runs if not run.is_complete]
    parts = ["\n".join(f"{run.name} {run.status}: {run.problem}" for run in failed)]
    if len(contestants) > 1:
        parts.insert(0, as_table(time_to_quality(contestants)))
    return "\n\n".join([as_table(lines), *filter(None, parts)]) + "\n"


def of_seed(run: Run) -> str:
    """Return the test (or else validation) bits/dim of a complete run, or the status of another one."""
    key = "test_bits_per_dim" if "test_bits_per_dim" in run.summary else "val_bits_per_dim"
    return shown(value_of(run, key), ".3f") if run.is_complete else run.status


def as_table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def time_to_quality(contestants: Sequence[Contestant]) -> list[list[str]]:
    """Return the minutes of training after which each contestant is as good as another one is at its end.

    There is one row per contestant, and one column per mean final validation bits/dim. A cell has the mean over the
    seeds of the minutes until the first validation that is at least as good. It is empty if not all of them came there.
    """
    ends = {one.name: mean(one, "val_bits_per_dim") for one in contestants}
    goals = {name: bits for name, bits in ends.items() if bits is not None and math.isfinite(bits)}
    header = ["minutes until", *(f"{bits:.3f} ({name})" for name, bits in goals.items())]
    lines = [header, ["---"] * len(header)]
    for contestant in contestants:
        minutes = [mean_minutes(contestant.runs, bits) for bits in goals.values()]
        lines.append([contestant.name, *(shown(one, ".1f") for one in minutes)])
    return lines


def mean_minutes(runs: Sequence[Run], bits: float) -> float | None:
    """Return the mean of the minutes until runs validate with at most so many bits/dim, or None if not all do."""
    seconds = [next((point.seconds for point in run.curve if point.bits_per_dim <= bits), None) for run in runs]
    known = [one for one in seconds if one is not None]
    return statistics.fmean(known) / 60 if known and len(known) == len(seconds) else None


def mean(contestant: Contestant, key: str) -> float | None:
    """Return the mean over the complete runs: nan if a result is not finite, None if one of them, or all, lack it."""
    values = [value_of(run, key) for run in contestant.runs if run.is_complete]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def value_of(run: Run, key: str) -> float | None:
    """Return a result of a run: nan if it is not finite (JSON has null for it), None if there is none."""
    if key not in run.summary:
        return None
    return math.nan if run.summary[key] is None else run.summary[key]


def shown(value: float | None, form: str) -> str:
    """Return a number as text; None becomes an empty text."""
    if value is None:
        return ""
    return format(value, form) if math.isfinite(value) else "not finite"


def plot(contestants: Sequence[Contestant], path: Path) -> None:
    """Draw validation bits/dim against training time and against images, with one line per run."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        sys.exit("error: the table is written, but the plot needs matplotlib: pip install matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    colours = plt.get_cmap("tab10")
    for panel, column, label in zip(panels, ("seconds", "images"), ("seconds of training", "images"), strict=True):
        for place, contestant in enumerate(contestants):
            for number, run in enumerate(contestant.runs):
                along = [getattr(point, column) for point in run.curve]
                bits = [point.bits_per_dim for point in run.curve]
                name = contestant.name if number == 0 and panel is panels[0] else None
                panel.plot(along, bits, marker=".", color=colours(place % 10), label=name)
        panel.set(xlabel=label, xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("val bits/dim")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    print_whatever_comes()
    main()
