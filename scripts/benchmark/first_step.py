"""Print how long a contestant takes until the end of its first training step; see `comparison.first_step`."""

import sys
import time

import torch

from flows.training import keep_freed_memory
from scripts.benchmark.contestants import built, contestants
from scripts.benchmark.work import SHAPES, draw_images, training_step

if __name__ == "__main__":
    contestant, name = sys.argv[1:]
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    builder = contestants()[contestant]
    images = draw_images(SHAPES[name], device)
    start = time.perf_counter()
    training_step(built(builder, SHAPES[name], images, "channels_last"), images)()
    if device.type == "cuda":
        torch.cuda.synchronize()
    print(time.perf_counter() - start)
