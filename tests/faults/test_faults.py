"""Faults of many kinds: each says what is wrong, and the run goes on to the end of one that nothing befell."""

import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.faults.conftest import Record
from tests.support.command_line import Script, run_script
from tests.support.progress import last_step, stored_step, wait_for_step
from tests.support.run import TINY
from tests.support.same_run import assert_same_run

pytestmark = pytest.mark.faults

RUN = [*TINY, "model.num_steps=1", "trainer.max_epochs=3"]
"""Forty steps an epoch."""
SLOW = "+callbacks.slow={_target_: tests.support.callbacks.Slow, seconds: 0.02}"
MINE = ["run_id=mine", "resume=auto"]


def start(folder: Path, *arguments: str, **options: object) -> Script:
    return Script(folder, "train.py", *arguments, SLOW, *MINE, **options)  # type: ignore[arg-type]


def go_on(folder: Path, *arguments: str) -> None:
    result = run_script(folder, "train.py", *arguments, *MINE)
    assert result.exit_code == 0, result.stderr


def steps_lost(run_dir: Path) -> int:
    return max(0, last_step(run_dir) - stored_step(run_dir))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_asked_to_stop(number: signal.Signals, tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *RUN)
    wait_for_step(run_dir, 55)
    os.kill(script.process.pid, number)  # type: ignore[arg-type]
    result = script.wait()
    assert result.exit_code == 130
    assert steps_lost(run_dir) == 0
    record(number.name, 1, 0, result.exit_code, result.stderr.splitlines()[-1].replace(f"{tmp_path}/", ""))
    go_on(tmp_path, *RUN)
    assert_same_run(unbroken(*RUN), run_dir)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_disk_full(small_disk: Path, tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    run_dir, arguments = small_disk / "mine", [*RUN, "hydra.run.dir=disk/mine"]
    script = start(tmp_path, *arguments)
    wait_for_step(run_dir, 45)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(512))
    result = script.wait()
    assert result.exit_code == 1
    assert "No space left on device" in result.error
    lost = steps_lost(run_dir)
    assert 0 < lost <= 40
    filler.unlink()
    go_on(tmp_path, *arguments)
    assert_same_run(unbroken(*RUN), run_dir, rows_lost=1)
    record("disk full", 1, lost, result.exit_code, result.error)


def test_folder_read_only(tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *RUN, as_anyone=True)
    wait_for_step(run_dir, 45)
    (run_dir / "checkpoints").chmod(0o500)
    result = script.wait()
    assert result.exit_code == 1
    assert "cannot be written (Permission denied): the one before it is whole" in result.error
    lost = steps_lost(run_dir)
    (run_dir / "checkpoints").chmod(0o700)
    go_on(tmp_path, *RUN)
    assert_same_run(unbroken(*RUN), run_dir, rows_lost=1)
    record("folder read-only", 1, lost, result.exit_code, result.error.replace(f"{tmp_path}/", ""))


def within_largest_record(checkpoint: Path) -> int:
    """Return the place of a byte that holds data, and is no filling between records."""
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    raw = checkpoint.read_bytes()[largest.header_offset :]
    name, extra = (int.from_bytes(raw[start : start + 2], "little") for start in (26, 28))
    return largest.header_offset + 30 + name + extra + largest.file_size // 2


@pytest.mark.parametrize("damage", ["flip a bit", "cut short", "empty"])
def test_checkpoint_damaged(damage: str, tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *RUN)
    wait_for_step(run_dir, 90)
    script.process.kill()
    script.process.join()
    last = run_dir / "checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[within_largest_record(last)] ^= 1
    last.write_bytes({"flip a bit": content, "cut short": content[:-5000], "empty": b""}[damage])
    result = run_script(tmp_path, "train.py", *RUN, *MINE)
    assert result.exit_code == 0, result.stderr
    assert f"Not resuming from {last}" in result.stdout + result.stderr
    assert_same_run(unbroken(*RUN), run_dir, rows_lost=1)
    record(f"last.ckpt damaged: {damage}", 1, "as best.ckpt", 0, "a warning that names it")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(40):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.png")
    return folder


PHOTOS = [
    *(argument for argument in TINY if argument != "data=digits"),
    *(
        "data=image_folder",
        "data.source.root=photos",
        "data.image_shape=[3,8,8]",
        "data.num_val=4",
        "model.num_levels=1",
    ),
    *("data.batch_size=8", "model.num_steps=1", "trainer.max_epochs=20"),
]
"""Four steps an epoch."""


@pytest.mark.parametrize("workers", [0, 1])
def test_image_damaged(
    workers: int, photos: Path, tmp_path: Path, unbroken: Callable[..., Path], record: Record
) -> None:
    arguments = [*PHOTOS, f"data.num_workers={workers}"]
    whole = unbroken(*arguments, cwd=tmp_path)
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *arguments)
    wait_for_step(run_dir, 10)
    shutil.copytree(photos, tmp_path / "backup")
    for path in photos.iterdir():
        path.write_bytes(path.read_bytes()[:60])
    result = script.wait()
    assert result.exit_code == 1
    assert "photos/" in result.error and "cannot be decoded" in result.error and "resume=auto" in result.error
    lost = steps_lost(run_dir)
    assert lost <= 4

    damaged = next(photos.iterdir())
    for path in (tmp_path / "backup").iterdir():
        if path.name != damaged.name:
            shutil.copy(path, photos)
    refused = run_script(tmp_path, "train.py", *arguments, *MINE)
    assert refused.exit_code == 1
    assert "training images, and now there are" in refused.error

    shutil.copy(tmp_path / "backup" / damaged.name, photos)
    go_on(tmp_path, *arguments)
    assert_same_run(whole, run_dir)
    record(f"image damaged, {workers} workers", 1, lost, result.exit_code, result.error)


def test_data_worker_killed(photos: Path, tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    arguments = [*PHOTOS, "data.num_workers=1"]
    whole = unbroken(*arguments, cwd=tmp_path)
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *arguments)
    wait_for_step(run_dir, 10)
    children = subprocess.run(["pgrep", "-P", str(script.process.pid)], capture_output=True, text=True).stdout.split()
    subprocess.run(["kill", "-9", *children], check=True)
    result = script.wait()
    assert result.exit_code == 1
    assert "a process that loads data died" in result.error
    lost = steps_lost(run_dir)
    go_on(tmp_path, *arguments)
    assert_same_run(whole, run_dir)
    record("data worker killed", len(children), lost, result.exit_code, result.error)


def test_gradient_not_finite(tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    damage = "+callbacks.damage={_target_: tests.support.callbacks.DamageGradient, step: 57}"
    run_dir, result = tmp_path / "outputs/mine", run_script(tmp_path, "train.py", *RUN, *MINE, damage)
    assert result.exit_code == 1
    assert "training diverged at step 57" in result.error and "last.ckpt" in result.error
    lost = steps_lost(run_dir)
    go_on(tmp_path, *RUN)
    assert_same_run(unbroken(*RUN), run_dir)
    record("gradient not finite", 1, lost, result.exit_code, result.error.replace(f"{tmp_path}/", ""))


DDP = [*RUN, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def children(script: Script) -> list[int]:
    """Return the ranks that the first one has started."""
    found = subprocess.run(["pgrep", "-P", str(script.process.pid), "-f", "train.py"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def is_alive(pid: int) -> bool:
    path = Path(f"/proc/{pid}/stat")
    return path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.ranks
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("hangs", [False, True], ids=["in training", "others hang"])
def test_rank_killed(rank: int, hangs: bool, tmp_path: Path, unbroken: Callable[..., Path], record: Record) -> None:
    """With gloo the other ranks notice the loss; with NCCL they would hang, which `others hang` stands for."""
    hang = ["+callbacks.hang={_target_: tests.support.callbacks.Hang, step: 50}"] if hangs else []
    run_dir, script = tmp_path / "outputs/mine", start(tmp_path, *DDP, *hang, environment={"PYTHONWARNINGS": "ignore"})
    wait_for_step(run_dir, 49 if hangs else 50)
    (second,) = children(script)
    os.kill(second if rank else script.process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    script.process.join(60)
    assert script.process.exitcode == (1 if rank and not hangs else -signal.SIGKILL)
    deadline = time.monotonic() + 60
    while is_alive(second) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not is_alive(second), "the second rank is left over"
    message = script.outputs[1].read_text() + script.outputs[0].read_text()
    if rank:
        assert "another rank of this run has died" in message or "terminated with code -9" in message
    lost = steps_lost(run_dir)
    go_on(tmp_path, *DDP)
    assert_same_run(unbroken(*DDP), run_dir, rows_lost=1)
    others = ", the other hangs" if hangs else ""
    found = [line for line in message.splitlines() if "another rank" in line or "terminated with" in line]
    record(f"rank {rank} killed{others}", 1, lost, script.process.exitcode, found[0] if found else "none")
