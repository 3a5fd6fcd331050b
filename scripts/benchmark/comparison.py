"""Runs all works at one shape, for all contestants in turn."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flows.image_flow import ImageFlow
from scripts.benchmark.contestants import OURS, built
from scripts.benchmark.floor import bare_convolutions
from scripts.benchmark.memory import out_of_memory, peak_bytes
from scripts.benchmark.timing import Entry, best_entry, race
from scripts.benchmark.work import WORKS, Shape, draw_images, gradients, reconstruction_error

Builders = Mapping[str, Callable[..., ImageFlow]]
FLOOR = "floor"
ROOT = Path(__file__).parent.parent.parent


@dataclass
class Contestant:
    """A model in two memory formats, and each work in the better of them."""

    forms: dict[str, ImageFlow]
    entries: dict[str, Entry]

    @classmethod
    def prepare(
        cls,
        builder: Callable[..., ImageFlow],
        shape: Shape,
        images: Tensor,
        thread_counts: Sequence[int],
        seconds: float,
        works: Sequence[str],
        compile: bool = False,
    ) -> "Contestant":
        """Build the models, and find the settings that suit each work best. What is compiled is in channels_last."""
        suitable = ("channels_last",) if compile else ("contiguous", "channels_last")
        forms = {form: built(builder, shape, images, form) for form in suitable}
        entries = {}
        for work in works:
            candidates = {form: WORKS[work](flow, images, compile) for form, flow in forms.items()}
            entries[work] = best_entry(candidates, thread_counts, seconds, images.device)
        return cls(forms, entries)

    def facts(self, images: Tensor) -> dict[str, Any]:
        """Return the facts that do not depend on other contestants.

        This is called after the race, because the training steps of the race have changed the weights.
        """
        flows = list(self.forms.values())
        return {
            "parameters": sum(p.numel() for p in flows[0].parameters()),
            "peak_bytes": min(peak_bytes(gradients(flow, images), images.device) for flow in flows),
            "reconstruction_error": max(reconstruction_error(flow, images) for flow in flows),
        }


def compare(
    name: str,
    shape: Shape,
    builders: Builders,
    *,
    rounds: int,
    seconds: float,
    device: torch.device,
    works: Sequence[str],
    compile: bool = False,
    tell: Callable[[str], object],
) -> dict[str, Any]:
    """Return everything that was measured at one shape.

    A contestant that fails when compiled, or after the race, or for want of memory, has the key "failed" with the
    reason. The others go on.

    Args:
        name: name of the shape.
        shape: sizes of model and batch.
        builders: functions that build the contestants, by name.
        rounds: how often each work is timed.
        seconds: about how long one timing takes.
        device: where the models run.
        works: what is timed, keys of `WORKS`.
        compile: whether all contestants run compiled, too.
        tell: is called with a text that says what is being done.
    """
    images = draw_images(shape, device)
    thread_counts = sorted({1, torch.get_num_threads()}) if device.type == "cpu" else [torch.get_num_threads()]
    contestants: dict[str, Contestant] = {}
    facts: dict[str, dict[str, Any]] = {}
    for contestant, builder in builders.items():
        tell(f"{name}: {contestant}")
        try:
            contestants[contestant] = Contestant.prepare(builder, shape, images, thread_counts, seconds, works)
        except Exception as error:
            if not out_of_memory(error):
                raise
            facts[contestant] = {"failed": reason(error, shape)}
    faster = {}
    if compile:
        compile_each_size_alone()
    for contestant in contestants if compile else ():
        tell(f"{name}: {contestant} is compiled")
        threads = thread_counts[-1:]
        builder = builders[contestant]
        try:
            faster[compiled(contestant)] = Contestant.prepare(builder, shape, images, threads, seconds, works, True)
        except Exception as error:
            facts[compiled(contestant)] = {"failed": reason(error, shape)}
    times = {}
    for work in works:
        entries = {contestant: prepared.entries[work] for contestant, prepared in (contestants | faster).items()}
        if work == "training step" and OURS in contestants:
            forms = contestants[OURS].forms
            floors = {form: bare_convolutions(flow, images, form) for form, flow in forms.items()}
            entries[FLOOR] = best_entry(floors, thread_counts, seconds, device)
        tell(f"{name}: {work}, {rounds} rounds")
        race(list(entries.values()), rounds, device)
        times[work] = {contestant: entry.result() for contestant, entry in entries.items()}
    for contestant, prepared in contestants.items():
        facts[contestant] = {}
        try:
            facts[contestant] |= prepared.facts(images)
            facts[contestant] |= {"first_step_seconds": first_step(contestant, name)}
        except Exception as error:
            facts[contestant]["failed"] = reason(error, shape)
    return {"name": name, "shape": str(shape), "contestants": facts, "times": times}


def compile_each_size_alone() -> None:
    """Let torch.compile compile each contestant for the sizes of each work alone, whatever was compiled before.

    By default, a function is compiled for all sizes at once when it meets a second size. The contestants share
    functions, so their order would decide which of them get this slower form.
    """
    torch._dynamo.config.automatic_dynamic_shapes = False
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 10_000


def reason(error: Exception, shape: Shape) -> str:
    """Return why a contestant failed, in one line."""
    if out_of_memory(error):
        return f"out of memory at {shape}"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def compiled(contestant: str) -> str:
    """Return the name of a contestant that runs compiled."""
    return f"{contestant}, compiled"


def first_step(contestant: str, name: str) -> float:
    """Return the seconds from building a model to the end of its first training step, in a process of its own.

    Raises:
        RuntimeError: if the process fails; the message has its last line.
    """
    command = [sys.executable, "-m", "scripts.benchmark.first_step", contestant, name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        last = "".join(done.stderr.strip().splitlines()[-1:])
        raise RuntimeError(f"its first step in a process of its own ended with status {done.returncode}: {last}")
    return float(done.stdout.splitlines()[-1])
