"""Workers go on when all processes of a job get a signal, and end when the main process ends them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from data import Digits, ImageData

NUM_WORKERS = 2


@pytest.mark.parametrize(
    ("name", "method"),
    [("SIGINT", "fork"), ("SIGTERM", "fork"), ("SIGUSR1", "fork"), ("SIGTERM", "forkserver")],
)
def test_workers_outlive_a_signal_to_all_processes(name: str, method: str) -> None:
    images = ImageData(source=Digits(), image_shape=(1, 8, 8), batch_size=16, num_val=100, num_workers=NUM_WORKERS)
    images.prepare_data()
    images.setup()
    loader = images.train_dataloader()
    loader.multiprocessing_context = method
    batches = iter(loader)
    served = [next(batches).index for _ in range(NUM_WORKERS)]  # each worker has begun
    workers = loader._iterator._workers  # type: ignore[union-attr]
    sender = f"import os, signal; [os.kill(pid, signal.{name}) for pid in {[worker.pid for worker in workers]}]"
    subprocess.run([sys.executable, "-c", sender], check=True)
    time.sleep(0.2)
    served += [batch.index for batch in batches]
    assert len(served) == len(loader)
    assert all(worker.is_alive() for worker in workers)
    start = time.monotonic()
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(timeout=10)
    assert not any(worker.is_alive() for worker in workers) and time.monotonic() - start < 10
