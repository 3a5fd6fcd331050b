"""Print the largest K at which a training step fits into a given memory, in ordinary and in memory-flat training.

Example:
    python -m scripts.benchmark.deepest --gib 4     # at 3x64x64, L=4, width 128, batch 32
"""

import argparse
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from scripts.benchmark.contestants import built, our_glow
from scripts.benchmark.memory import out_of_memory
from scripts.benchmark.work import SHAPES, draw_images, training_step

SHAPE = replace(SHAPES["3x64x64"], batch_size=32)
OUT_OF_MEMORY = 3
"""Exit status of a trial that did not fit."""
ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    """Search both modes. Each trial runs in a process whose memory is limited."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="of memory, weights, moments and all (default: 4)")
    parser.add_argument("--trial", nargs=2, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.trial:
        num_steps, memory_flat = told.trial
        step(int(num_steps), memory_flat == "True", told.gib)
        return
    for memory_flat in (False, True):
        print(f"memory_flat={memory_flat}: K={deepest(memory_flat, told.gib)} in {told.gib:g} GiB")


def deepest(memory_flat: bool, gib: float) -> int:
    """Return the largest K that fits, to 2%: first double K, then bisect."""
    fits, fails = 0, 8
    while trial(fails, memory_flat, gib):
        fits, fails = fails, 2 * fails
    while fails - fits > max(1, fits // 50):
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if trial(middle, memory_flat, gib) else (fits, middle)
    return fits


def trial(num_steps: int, memory_flat: bool, gib: float) -> bool:
    """Return whether training with K steps per level fits.

    Raises:
        CalledProcessError: if the trial fails for another reason than a lack of memory.
    """
    command = [sys.executable, "-m", "scripts.benchmark.deepest", "--gib", str(gib), "--trial"]
    done = subprocess.run([*command, str(num_steps), str(memory_flat)], cwd=ROOT, stderr=subprocess.PIPE)
    if done.returncode not in (0, OUT_OF_MEMORY, -signal.SIGABRT):
        sys.stderr.buffer.write(done.stderr)
        done.check_returncode()
    print(f"  K={num_steps}: {'fits' if done.returncode == 0 else 'does not fit'}", file=sys.stderr)
    return done.returncode == 0


def step(num_steps: int, memory_flat: bool, gib: float) -> None:
    """Take two training steps within the limit."""
    limit = int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    shape = replace(SHAPE, num_steps=num_steps)
    builder = partial(our_glow, memory_flat=memory_flat)
    try:
        images = draw_images(shape, torch.device("cpu"))
        take = training_step(built(builder, shape, images[:4], "channels_last"), images)
        for _ in range(2):
            take()
    except Exception as error:
        if not out_of_memory(error):
            raise
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
