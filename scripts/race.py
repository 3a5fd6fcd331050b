"""Train several configs one after the other, for the same time or on the same number of images, and compare them.

Examples:
    python scripts/race.py races/five --seconds 300 --seeds 0,1,2 \\
        "ours: experiment=fashion_mnist_5min" \\
        "normflows: experiment=fashion_mnist_5min model=normflows_glow optimizer=adam optimizer.lr=3e-3"
    python scripts/race.py races/tune --images 50000 --no-test "2e-3: optimizer.lr=2e-3" "4e-3: optimizer.lr=4e-3"

A contestant is a name and the arguments for train.py. Only training counts: validation, tests and starting do not. The
folder gets a run folder for each contestant and seed, and race.json, race.md and race.png. race.md also says how many
minutes of training each contestant took to become as good as another one is at its end, or as one of --goals;
--validations says how closely this is known. If a race was stopped, the same command continues it. Other settings need
another folder. To choose settings, race with --no-test: this compares by validation bits/dim, and does not read the
test set. Then race once with the test.
"""

import argparse
import math
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.errors import HydraException

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from flows.training import Run, print_whatever_comes, read_run, to_json
from flows.training.command.explain import explain
from flows.training.command.names import as_text
from flows.training.command.overrides import as_argument, tidy
from scripts.files.new_folder import make_folder
from scripts.racing.child import STOPPED, run_to_end
from scripts.racing.contestant import Contestant
from scripts.racing.earlier import check_rows, check_run, settings
from scripts.racing.plot import plot
from scripts.racing.table import markdown

TRAIN = Path(__file__).parent.parent / "train.py"
BUSY = 0.5
"""If the load average is above this value, the machine does other work, too."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the race that the command line describes."""
    told = parse(arguments)
    contestants = [Contestant(name, overrides, []) for name, overrides in told.contestants]
    try:
        make_folder(told.folder)
    except OSError as error:
        sys.exit(f"error: {error}")
    with alone_on_this_machine():
        check_folder(told)
        for seed in told.seeds:
            for contestant in contestants:
                print(f"\n{title(contestant.name, seed)}", flush=True)
                contestant.runs.append(train(contestant, seed, told))
    (told.folder / "race.json").write_text(to_json([contestant.result() for contestant in contestants]))
    text = markdown(contestants, told.goals)
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
    status = run_to_end([*command, as_argument("hydra.run.dir", folder), "resume=auto"])
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
    parser.add_argument(
        "--seeds", type=list_of(int, "0,1,2"), default=[0], help="such as 0,1,2: a run with each (default: 0)"
    )
    parser.add_argument(
        "--goals", type=list_of(float, "3.1,2.9"), default=[], help="such as 3.1,2.9: val bits/dim, minutes until each"
    )
    parser.add_argument("--validations", type=int, default=10, help="about how many per run of --seconds (default: 10)")
    parser.add_argument("--no-test", dest="test", action="store_false", help="leave the test set unread")
    told = parser.parse_intermixed_args(arguments)
    names = [name for name, _ in told.contestants]
    if len({*names}) < len(names):
        parser.error("each contestant needs a name of its own")
    if len({*told.seeds}) < len(told.seeds) or min(told.seeds) < 0:
        parser.error(f"--seeds are different numbers of at least 0, got {','.join(map(str, told.seeds))}")
    if not all(map(math.isfinite, told.goals)):
        parser.error(f"--goals are finite numbers, got {','.join(map(str, told.goals))}")
    if told.validations < 1:
        parser.error(f"--validations is at least 1, got {told.validations}")
    option, value = ("--images", told.images) if told.seconds is None else ("--seconds", told.seconds)
    if not 0 < value < math.inf:
        parser.error(f"{option} is a number above 0, got {value:g}")
    of_the_race = {*settings([*limits(told), "seed=0"]), "run_id"}
    for name, overrides in told.contestants:
        if both := sorted(of_the_race & settings(overrides).keys()):
            parser.error(f"{name}: the race itself chooses {', '.join(both)}: leave this out")
    return told


def list_of(kind: Callable[[str], Any], example: str) -> Callable[[str], list[Any]]:
    """Return what reads a list of numbers, such as the example, from the command line."""

    def read(text: str) -> list[Any]:
        try:
            return [kind(number) for number in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as {example}") from error

    return read


def contestant(text: str) -> tuple[str, list[str]]:
    """Return the name and the overrides of a contestant.

    Raises:
        ArgumentTypeError: if the text has another form.
    """
    name, colon, overrides = text.partition(":")
    if not colon or not name.strip() or "/" in name or name.strip() in (".", ".."):
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


if __name__ == "__main__":
    print_whatever_comes()
    main()
