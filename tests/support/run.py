"""Runs the project's scripts inside a test, at tiny sizes."""

from pathlib import Path

from hydra import compose, initialize_config_dir

import train

CONF = str(Path(__file__).parents[2] / "conf")

TINY = [
    "data=digits",
    "data.batch_size=32",
    "model.hidden_channels=4",
    "trainer.log_every_n_steps=1",
    "training.num_init_images=32",
    "training.num_test_draws=2",
    "callbacks.progress=null",
    "+trainer.enable_progress_bar=false",
]


def run_training(run_dir: Path, *overrides: str) -> float:
    """Run train.py on digits in the folder `run_dir`, and return the validation bits/dim."""
    model = [] if "model=realnvp" in overrides else ["model.num_steps=1"]
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", [*TINY, *model, f"run_dir={run_dir}", *overrides])
    run_dir.mkdir(parents=True, exist_ok=True)
    return train.main(cfg)
