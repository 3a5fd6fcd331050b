"""Compare runs: tables and plots of a folder of runs, or the paired difference of two flows on the test images.

Examples:
    python scripts/collect.py multirun/mine      # a sweep, or any folder with runs in it
    python scripts/collect.py outputs/mine       # the curves of one run
    python scripts/collect.py --compare outputs/one outputs/other
    python scripts/collect.py --compare 'multirun/mine/*-wide' 'multirun/mine/*-deep'    # several seeds each

For a folder, it prints the tables, and writes into that folder:
    collected.csv, collected.md     one row per run, with the settings in which the runs differ; the best validation
                                    bits/dim first, runs that failed or have not ended last
    groups.csv, groups.md, groups.tex    one row per setting: mean and standard deviation over the runs that differ by
                                    their seed only, and their number; groups.tex is for LaTeX with booktabs
    by-SETTING.png, by-time.png     bits/dim against each setting; curves of training and validation
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that this checkout is used, from any folder

from flows.training import find_runs, print_whatever_comes
from scripts.comparison.form import latex, markdown, with_deviations, write_csv
from scripts.comparison.groups import group_table, grouped
from scripts.comparison.paired import compare
from scripts.comparison.plots import plots
from scripts.comparison.table import rank, swept_settings, table


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="of a sweep, of runs or of one run")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two run folders, or patterns in quotes that fit run folders"
    )
    told = parser.parse_args(arguments)
    if (told.folder is None) == (told.compare is None):
        parser.error("give a FOLDER, or --compare A B")
    if told.compare is not None:
        try:
            print(compare(*told.compare))
        except (FileNotFoundError, ValueError) as error:
            sys.exit(f"error: {error}")
    else:
        collect(told.folder)


def collect(folder: Path) -> None:
    """Write tables and plots into a folder of runs."""
    runs = sorted(find_runs(folder), key=rank)
    if not runs:
        sys.exit(f"error: no run is in {folder}: give the folder of a sweep, as in multirun/RUN_ID")
    swept = swept_settings(runs)
    groups = grouped(runs, swept)
    rows, group_rows = table(runs, swept), group_table(groups)
    done = sum(run.is_complete for run in runs)
    note = f"{done} of {len(runs)} runs are complete, the best validation bits/dim first: select by that."
    text = f"{markdown(rows)}\n\n{note}\n"
    shown = with_deviations(group_rows)
    print(text)
    if len(groups) < len(runs):
        print(f"{markdown(shown)}\n\nMean ± standard deviation over runs that differ by their seed only.\n")
    try:
        write_csv(rows, folder / "collected.csv")
        write_csv(group_rows, folder / "groups.csv")
        (folder / "collected.md").write_text(text, encoding="utf-8")
        (folder / "groups.md").write_text(markdown(shown) + "\n", encoding="utf-8")
        (folder / "groups.tex").write_text(latex(shown) + "\n", encoding="utf-8")
        paths = plots(groups, swept, folder)
    except OSError as error:
        sys.exit(f"error: tables and plots could not be written ({error}): make {folder} writable, or collect a copy")
    for path in paths:
        print(path)


if __name__ == "__main__":
    print_whatever_comes()
    main()
