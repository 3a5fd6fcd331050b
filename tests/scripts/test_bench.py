"""The benchmark: equal contestants, true memory and floor, and answers to what is missing. No time is asserted."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from math import isnan
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from PIL import Image

import flows
from scripts import bench
from scripts.benchmark import comparison, contestants, deepest, growth
from scripts.benchmark.comparison import FLOOR
from scripts.benchmark.contestants import OURS, PEERS, as_peer
from scripts.benchmark.floor import bare_convolutions
from scripts.benchmark.memory import peak_bytes
from scripts.benchmark.report import compiled_table, equal_work_table, exponent
from scripts.benchmark.work import SHAPES, WORKS, Shape, draw_images
from tests.support.perturb import perturb

CPU = torch.device("cpu")
FIRST_STEP = comparison.first_step
TINY = Shape((1, 8, 8), num_levels=2, num_steps=1, hidden_channels=4, batch_size=2)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_contestants_have_parameters_alike(shape: Shape) -> None:
    """To 2%, apart from normflows' mean and width for each entry of the latents, which cost no time."""
    with torch.device("meta"):
        ours = sum(p.numel() for p in contestants.our_glow(**shape.model).parameters())
    builders = contestants.contestants()
    for name in PEERS:
        flow = builders[name](**shape.model)
        counted = sum(p.numel() for name, p in flow.named_parameters() if "q0." not in name)
        assert counted == pytest.approx(ours, rel=0.02), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("peer", PEERS)
def test_this_project_with_the_choices_of_a_peer_has_its_parameters(peer: str, shape: Shape) -> None:
    """To 7%: FrEIA counts its fixed rotations as parameters, and both triangles of our 1x1 convolutions are square."""
    builders = contestants.contestants()
    theirs = sum(p.numel() for p in builders[peer](**shape.model).parameters())
    ours = builders[as_peer(peer)](**shape.model)
    assert sum(p.numel() for p in [*ours.parameters(), *ours.buffers()]) == pytest.approx(theirs, rel=0.07)


@pytest.mark.parametrize("name", [OURS, *PEERS, *map(as_peer, PEERS)])
def test_a_contestant_decodes_what_it_encodes_and_its_log_det_is_autograds(name: str) -> None:
    torch.manual_seed(0)
    flow = contestants.contestants()[name](**replace(TINY, image_shape=(1, 4, 4)).model)
    images = draw_images(replace(TINY, image_shape=(1, 4, 4)), CPU)
    flows.initialize(flow, images)
    flow = perturb(flow, 0.05).double()
    assert torch.equal(flow.decode(flow.encode(images)), images)
    x, _ = flow.dequantize(images[:1], torch.full((1, 1, 4, 4), 0.3, dtype=torch.float64))
    _, log_det = flow.multiscale(x)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.cat([z.flatten() for z in flow.multiscale(x)[0]]), x
    ).reshape(16, 16)
    assert log_det.item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-6)


def test_a_peer_that_is_not_installed_is_left_out_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PEERS, "absent", contestants.Peer("absent_library", "Glow", "absent-library"))
    assert "absent" not in contestants.contestants()
    assert (
        "absent is left out, as absent_library is not installed: pip install absent-library" in capsys.readouterr().out
    )


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        one = torch.zeros(1000, 256)
        two = one + 1
        del one
        three = two + 1
        del two, three

    assert peak_bytes(work, CPU) == pytest.approx(2 * 1000 * 256 * 4, rel=1e-3)


def test_the_floor_has_every_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = contestants.our_glow(**TINY.model)
    step = bare_convolutions(flow, draw_images(TINY, CPU), "channels_last")
    calls = []
    original = torch.nn.functional.conv2d
    monkeypatch.setattr(
        "torch.nn.functional.conv2d",
        lambda x, weight, *args, **kwargs: calls.append(weight.shape) or original(x, weight, *args, **kwargs),
    )
    step()
    expected = [module.weight.shape for module in flow.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sorted(calls) == sorted(expected) and len(calls) == 2 * 3 + 1


def test_the_fitted_exponent_is_that_of_a_power() -> None:
    assert exponent([2, 4, 16], [3 * size**1.5 for size in (2, 4, 16)]) == pytest.approx(1.5)
    assert isnan(exponent([2], [3]))


@pytest.mark.slow
def test_everything_is_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "1x28x28", replace(SHAPES["1x28x28"], num_steps=1, hidden_channels=4, batch_size=2))
    monkeypatch.setattr(growth, "BASE", replace(growth.BASE, num_steps=1, hidden_channels=4, batch_size=2))
    monkeypatch.setattr(growth, "AXES", {"num_steps": ("K", [1, 2]), "side": ("side of the image", [8, 16])})
    monkeypatch.setattr(bench, "fail_rather_than_be_killed", lambda: None)
    bench.main([str(tmp_path), "--shapes", "1x28x28", "--rounds", "2", "--seconds", "0.01"])
    report = json.loads((tmp_path / "bench.json").read_text())
    (result,) = report["shapes"]
    everyone = {OURS, *PEERS, *map(as_peer, PEERS)}
    assert result["contestants"].keys() == everyone
    for work in WORKS:
        assert result["times"][work].keys() - {FLOOR} == everyone
        assert all(len(entry["seconds"]) == 2 for entry in result["times"][work].values())
    for facts in result["contestants"].values():
        assert facts["peak_bytes"] > 0 and facts["first_step_seconds"] > 0
        assert facts["reconstruction_error"] < 1e-3
    assert {point["contestant"] for point in report["growth"]["side"]} == {OURS, growth.FLAT, *PEERS}
    tables = (tmp_path / "bench.md").read_text()
    assert "| training step |" in tables
    assert "| sampling 1, eager | FrEIA |" in tables
    assert f"| num_steps | {OURS} | 1, 2 |" in tables
    with Image.open(tmp_path / "growth.png") as picture:
        assert picture.width > 1000


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
def test_libraries_and_their_equals_run_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "first_step", lambda *args: 1.0)
    builders = {name: contestants.contestants()[name] for name in ("FrEIA", as_peer("FrEIA"))}
    options: dict[str, Any] = {"rounds": 2, "seconds": 0.001, "device": CPU, "tell": lambda text: None}
    works = ["training step", "sampling 1"]
    result = comparison.compare("tiny", TINY, builders, works=works, compile=True, **options)
    rows = equal_work_table(result)
    ways = ["eager", "compiled", "compiled against eager"]
    assert [row[:2] for row in rows[1:]] == [[f"{work}, {way}", "FrEIA"] for work in result["times"] for way in ways]
    assert all(float(row[2].removesuffix("x")) > 0 for row in rows[1:])


def test_a_contestant_out_of_memory_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(**model: object) -> flows.ImageFlow:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(comparison, "first_step", lambda *args: 1.0)
    builders = {OURS: contestants.our_glow, "large": too_large}
    told: list[str] = []
    result = comparison.compare(
        "tiny", TINY, builders, rounds=2, seconds=0.001, device=CPU, works=[*WORKS], tell=told.append
    )
    assert result["contestants"]["large"] == {"failed": f"out of memory at {TINY}"}
    assert "large" not in result["times"]["training step"] and OURS in result["times"]["training step"]


@pytest.fixture
def shape_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a benchmark measure a tiny shape and this project only."""
    monkeypatch.setitem(SHAPES, "1x28x28", TINY)
    monkeypatch.setattr(bench, "contestants", lambda: {OURS: contestants.our_glow})
    monkeypatch.setattr(bench, "fail_rather_than_be_killed", lambda: None)
    monkeypatch.setattr(comparison, "first_step", lambda *args: 1.0)


QUICK = ["--shapes", "1x28x28", "--rounds", "2", "--seconds", "0.001"]


def failing(message: str) -> Callable[..., Any]:
    """Return a function that raises an error with this message."""

    def fail(*args: object, **kwargs: object) -> Any:
        raise RuntimeError(message)

    return fail


@pytest.mark.parametrize(
    ("message", "failed"),
    [
        ("CppCompileError: no\nlong text", "RuntimeError: CppCompileError: no"),
        ("can't allocate memory", f"out of memory at {TINY}"),
    ],
)
def test_a_failure_of_the_compiled_form_keeps_the_others(
    shape_of_one: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, message: str, failed: str
) -> None:
    monkeypatch.setattr(bench, "has_compiler", lambda: True)
    monkeypatch.setattr(torch, "compile", failing(message))
    bench.main([str(tmp_path), *QUICK, "--no-growth", "--compile"])
    (result,) = json.loads((tmp_path / "bench.json").read_text())["shapes"]
    assert result["contestants"][f"{OURS}, compiled"] == {"failed": failed}
    assert (
        OURS in result["times"]["encoding"]
        and f"| {OURS}, compiled | {failed} |" in (tmp_path / "bench.md").read_text()
    )


def test_a_first_step_that_fails_keeps_the_times(
    shape_of_one: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(comparison, "first_step", FIRST_STEP)
    done = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\n  File\nKeyError: 'x'\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)
    bench.main([str(tmp_path), *QUICK, "--no-growth"])
    (result,) = json.loads((tmp_path / "bench.json").read_text())["shapes"]
    facts = result["contestants"][OURS]
    assert facts["failed"].endswith("its first step in a process of its own ended with status 1: KeyError: 'x'")
    assert facts["parameters"] > 0 and OURS in result["times"]["training step"]


def test_what_was_measured_is_there_after_each_shape_and_axis(
    shape_of_one: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(growth, "BASE", replace(growth.BASE, num_steps=1, hidden_channels=4, batch_size=2))
    monkeypatch.setattr(growth, "AXES", {"num_steps": ("K", [1]), "side": ("side of the image", [8])})
    original = growth.draw_images

    def stop_in_the_second_axis(shape: Shape, device: torch.device) -> torch.Tensor:
        if shape.image_shape[1] == 8:
            raise KeyboardInterrupt
        return original(shape, device)

    monkeypatch.setattr(growth, "draw_images", stop_in_the_second_axis)
    with pytest.raises(KeyboardInterrupt):
        bench.main([str(tmp_path), *QUICK])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert len(report["shapes"]) == 1 and report["growth"]["side"] == []
    assert {point["contestant"] for point in report["growth"]["num_steps"]} == {OURS, growth.FLAT}
    assert f"| num_steps | {OURS} | 1 |" in (tmp_path / "bench.md").read_text()


def test_a_second_benchmark_does_not_replace_the_first(shape_of_one: None, tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"error: .* holds a benchmark already: give another folder, or rename or rem"):
        bench.main([str(tmp_path), *QUICK, "--no-growth"])
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU needs no C++ compiler")
def test_a_missing_compiler_is_told_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def search() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", search)
    with pytest.raises(SystemExit, match=r"error: --compile needs a C\+\+ compiler, and there is none: install g\+\+"):
        bench.main([str(tmp_path / "folder"), *QUICK, "--no-growth", "--compile"])
    assert not (tmp_path / "folder").exists()


def test_only_the_works_that_are_asked_for_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "1x28x28", replace(SHAPES["1x28x28"], num_steps=1, hidden_channels=4, batch_size=2))
    monkeypatch.setattr(bench, "fail_rather_than_be_killed", lambda: None)
    monkeypatch.setattr(comparison, "first_step", lambda *args: 1.0)
    bench.main([str(tmp_path), *QUICK, "--no-growth", "--works", "sampling 1"])
    (result,) = json.loads((tmp_path / "bench.json").read_text())["shapes"]
    assert list(result["times"]) == ["sampling 1"]
    assert "| training step |" not in (tmp_path / "bench.md").read_text()


def test_without_shapes_only_the_growth_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "BASE", replace(growth.BASE, num_steps=1, hidden_channels=4, batch_size=2))
    monkeypatch.setattr(growth, "AXES", {"num_steps": ("K", [1, 2]), "side": ("side of the image", [8, 16])})
    monkeypatch.setattr(bench, "fail_rather_than_be_killed", lambda: None)
    bench.main([str(tmp_path), "--shapes", "--rounds", "2"])
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["shapes"] == [] and list(report["growth"]) == ["num_steps", "side"]


def test_a_spread_takes_two_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main([str(tmp_path), "--rounds", "1"])
    assert "--rounds is at least 2" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 53, 464])
def test_the_search_for_the_deepest_flow_ends_within_2_percent(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepest, "trial", lambda num_steps, memory_flat, gib: num_steps <= limit)
    found = deepest.deepest(False, 4.0)
    assert found <= limit <= found + found // 50


@pytest.mark.parametrize(("gib", "fits"), [(0.3, False), (2.0, True)])
def test_a_trial_says_whether_a_flow_fits(gib: float, fits: bool) -> None:
    assert deepest.trial(1, False, gib) is fits


def test_the_gain_of_compiling_has_rows() -> None:
    def entry(median: float) -> dict[str, float]:
        return {"median": median, "spread": 0.0}

    peer, *_ = PEERS
    times = {OURS: entry(0.3), f"{OURS}, compiled": entry(0.2), peer: entry(0.4), f"{peer}, compiled": entry(0.1)}
    result = {"name": "tiny", "times": {"training step": times, "one sample": {OURS: entry(0.3)}}}
    _, row = compiled_table(result)
    assert row == ["training step", "1.50x", "2.00x", "0.50x", "200.0 ± 0.0"]


def test_wrong_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, says in (
        (["new", "--seconds", "inf"], "--seconds is a number above 0, got inf"),
        (["new", "--seconds", "nan"], "--seconds is a number above 0, got nan"),
    ):
        with pytest.raises(SystemExit):
            bench.parse([str(tmp_path / arguments[0]), *arguments[1:]])
        assert says in capsys.readouterr().err
