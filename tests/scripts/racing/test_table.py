"""The tables of a race."""

from flows.training import Run
from flows.training.run.folder import Point
from scripts.racing.contestant import Contestant
from scripts.racing.table import markdown, time_to_quality


def test_a_table_says_when_each_contestant_is_as_good_as_another_at_its_end() -> None:
    def one(name: str, *curves: list[float]) -> Contestant:
        """Validated once per minute."""
        points = [[Point(60 * (k + 1), k, bits, bits) for k, bits in enumerate(curve)] for curve in curves]
        runs = [
            Run(name, "completed", summary={"val_bits_per_dim": curve[-1]}, curve=made)
            for curve, made in zip(curves, points, strict=True)
        ]
        return Contestant(name, [], runs)

    fast, slow = one("fast", [4.0, 3.0, 2.0], [3.0, 2.5, 2.0]), one("slow", [5.0, 4.0, 3.5], [5.0, 4.5, 4.0])
    header, *rows = time_to_quality([fast, slow])
    assert header == ["minutes until", "2.000 (fast)", "3.750 (slow)"]
    assert rows == [["fast", "3.0", "1.5"], ["slow", "", ""]]  # one of two slow runs does not come to their mean
    header, *rows = time_to_quality([fast, slow], goals=[4.0, 1.0])
    assert header == ["minutes until", "2.000 (fast)", "3.750 (slow)", "4.000", "1.000"]
    assert rows == [["fast", "3.0", "1.5", "1.0", ""], ["slow", "", "", "2.5", ""]]
    assert "| minutes until | 3.750 (slow) | 4.000 |" in markdown([slow], goals=[4.0])
    assert "minutes until" not in markdown([slow])
    assert r"| a\|b |" in markdown([one("a|b", [4.0])])


def test_a_seed_without_a_finite_result_is_not_left_out_of_a_mean() -> None:
    def one(name: str, *vals: float | None) -> Contestant:
        runs = [Run(name, "completed", summary={"val_bits_per_dim": val, "steps": 1}) for val in vals]
        return Contestant(name, [], runs)

    header, _, whole, broken = (
        dict(enumerate(line.split(" | ")))
        for line in markdown([one("whole", 4.0, 4.0), one("broken", 3.0, None)]).split("\n\n")[0].splitlines()
    )
    columns = {name.strip("| "): place for place, name in header.items()}
    assert whole[columns["val bits/dim"]] == "4.000" and whole[columns["each seed"]].startswith("4.000, 4.000")
    assert broken[columns["val bits/dim"]] == broken[columns["gain"]] == "not finite"
    assert broken[columns["each seed"]].startswith("3.000, not finite")
    assert one("partly", 3.0).mean("test_bits_per_dim") is None
    assert time_to_quality([one("whole", 4.0), one("broken", None)])[0] == ["minutes until", "4.000 (whole)"]


def test_the_table_says_of_what_samples_the_distance_is_and_whether_these_differ() -> None:
    def one(name: str, samples: str) -> Contestant:
        summary = {"val_bits_per_dim": 3.0, "val_fd": 2.5, "val_samples": samples}
        return Contestant(name, [], [Run(name, "completed", summary=summary)])

    many, few = one("many", "2,000 samples by A"), one("few", "200 samples by A")
    assert "\n\nFD is that of 2,000 samples by A.\n" in markdown([many, many])
    assert "FD is that of 2,000 samples by A; and of 200 samples by A. These differ, so do not" in markdown([many, few])
