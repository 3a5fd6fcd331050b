"""Tables of a benchmark, with the ratios first."""

from collections.abc import Sequence
from math import log
from statistics import linear_regression
from typing import Any

from scripts.benchmark.comparison import FLOOR, compiled
from scripts.benchmark.contestants import OURS, PEERS, as_peer
from scripts.comparison.form import as_markdown


def fastest_peer(times: dict[str, Any]) -> str | None:
    """Return the other library that does a work in the least time; None if there is no other library."""
    peers = {name: entry["median"] for name, entry in times.items() if name in PEERS}
    return min(peers, key=lambda name: peers[name], default=None)


def time_table(result: dict[str, Any]) -> list[list[str]]:
    """Return one row per work: the speed relative to the fastest peer, then milliseconds with half the spread."""
    names = [*(name for name in result["contestants"] if name in (OURS, *PEERS)), FLOOR]
    rows = [[result["name"], "against the fastest peer", *(f"{name}, ms" for name in names)]]
    for work, times in result["times"].items():
        peer = fastest_peer(times)
        ratio = f"{times[peer]['median'] / times[OURS]['median']:.2f}x ({peer})" if peer and OURS in times else ""
        cells = (milliseconds(times[name]) if name in times else "" for name in names)
        rows.append([work, ratio, *cells])
    return rows


def equal_work_table(result: dict[str, Any]) -> list[list[str]]:
    """Return one row per work and library: its time against that of this project's parts with its choices."""
    rows = [[result["name"], "library", "ratio", "this project, ms", "the library, ms"]]
    for work, times in result["times"].items():
        for way in "eager", "compiled", "compiled against eager":
            for peer in PEERS:
                our_name = as_peer(peer) if way == "eager" else compiled(as_peer(peer))
                ours, theirs = times.get(our_name), times.get(compiled(peer) if way == "compiled" else peer)
                if ours and theirs:
                    ratio = f"{theirs['median'] / ours['median']:.2f}x"
                    rows.append([f"{work}, {way}", peer, ratio, milliseconds(ours), milliseconds(theirs)])
    return rows


def compiled_table(result: dict[str, Any]) -> list[list[str]]:
    """Return one row per work: what compiling gains here, and against the fastest peer as it is and compiled."""
    against = ["itself", "the fastest peer", "the fastest compiled peer"]
    rows = [[f"{result['name']}, this project compiled", *(f"against {name}" for name in against), "ms"]]
    for work, times in result["times"].items():
        if (ours := times.get(compiled(OURS))) is None:
            continue
        peers = [times[name] for name in PEERS if name in times]
        faster = [times[compiled(name)] for name in PEERS if compiled(name) in times]
        cells = (
            f"{min(one['median'] for one in others) / ours['median']:.2f}x" if others else ""
            for others in ([times[OURS]], peers, faster)
        )
        rows.append([work, *cells, milliseconds(ours)])
    return rows


def tables(result: dict[str, Any]) -> list[list[list[str]]]:
    """Return the tables of one shape; those without rows are left out."""
    made = [make(result) for make in (time_table, compiled_table, equal_work_table, fact_table)]
    return [rows for rows in made if len(rows) > 1]


def milliseconds(entry: dict[str, Any]) -> str:
    """Return the median of the rounds, and half the spread of their middle half."""
    return f"{1000 * entry['median']:.1f} ± {500 * entry['spread']:.1f}"


def fact_table(result: dict[str, Any]) -> list[list[str]]:
    """Return one row per contestant: size, memory, first step, exactness and the setting that suits it best."""
    rows = [
        [
            result["name"],
            "parameters",
            "peak MiB of a step",
            "first step, s",
            "largest reconstruction error",
            "trains best in",
        ]
    ]
    for name, facts in result["contestants"].items():
        if "failed" in facts:
            rows.append([name, facts["failed"], "", "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{facts['parameters']:,}",
                f"{facts['peak_bytes'] / 2**20:.1f}",
                f"{facts['first_step_seconds']:.2f}",
                f"{facts['reconstruction_error']:.1e}",
                result["times"]["training step"][name]["setting"] if "training step" in result["times"] else "",
            ]
        )
    return rows


def growth_table(points: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Return one row per axis and contestant: the exponents of the fitted powers of the size, of time and memory."""
    rows = [["growth with", "contestant", "sizes", "exponent of seconds", "exponent of bytes"]]
    for axis, of_axis in points.items():
        measured = [point for point in of_axis if "failed" not in point]
        for contestant in dict.fromkeys(point["contestant"] for point in measured):
            own = [point for point in measured if point["contestant"] == contestant]
            sizes = [point["size"] for point in own]
            exponents = [f"{exponent(sizes, [point[name] for point in own]):.2f}" for name in ("seconds", "peak_bytes")]
            rows.append([axis, contestant, ", ".join(map(str, sizes)), *exponents])
    return rows


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return p of the fit values = c * sizes**p, by least squares of the logarithms."""
    return linear_regression([*map(log, sizes)], [*map(log, values)]).slope if len({*sizes}) > 1 else float("nan")


def markdown(report: dict[str, Any]) -> str:
    """Return all tables of a report."""
    parts = [f"{report['machine']}\n{report['command']}"]
    for result in report["shapes"]:
        parts += [result["shape"], *map(as_markdown, tables(result))]
    if "growth" in report:
        parts.append(as_markdown(growth_table(report["growth"])))
    return "\n\n".join(parts) + "\n"
