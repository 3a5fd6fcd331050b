"""The plot of a race."""

from collections.abc import Sequence
from pathlib import Path

from scripts.racing.contestant import Contestant


def plot(contestants: Sequence[Contestant], path: Path) -> None:
    """Draw validation bits/dim against training time and against images, with one line per run."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    colours = colormaps["tab10"]
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
