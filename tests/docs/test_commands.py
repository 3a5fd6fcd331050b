"""The commands in the pages run as printed, at tiny sizes and in the order in which a reader meets them."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import data
import sample
import train
from scripts import bench, collect, estimate, evaluate, race
from tests.docs.pages import PAGES, ROOT, blocks, spans
from tests.run import CONF

SCRIPTS = {
    "train.py": (
        train.main,
        "train",
        [
            "trainer.max_steps=2",
            "callbacks.progress=null",
            "training.num_init_images=16",
            "trainer.log_every_n_steps=1",
        ],
    ),
    "sample.py": (sample.main, "sample", ["batch_size=8"]),
    "scripts/evaluate.py": (evaluate.main, "evaluate", ["data.num_val=8"]),
    "scripts/estimate.py": (estimate.main, "estimate", ["run_dir=."]),
}
PARSERS = {"scripts/race.py": race.parse, "scripts/bench.py": bench.parse}
TINY_TRAINING = {
    "data.batch_size": "8",
    "data.num_val": "8",
    "model.hidden_channels": "4",
    "+trainer.enable_progress_bar": "false",
}


def lines() -> Iterator[str]:
    """Go through the commands of all pages, those within sentences and tables, too."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            yield from (line for line in block.replace("\\\n", " ").splitlines() if line.strip())
        yield from (span for span in spans(page) if re.match(r"(python|pip|make|sbatch|conda) ", span))


COMMANDS = [list(words) for words in dict.fromkeys(tuple(shlex.split(line, comments=True)) for line in lines()) if words]
IN_BLOCKS = {
    tuple(shlex.split(line, comments=True))
    for page in PAGES
    for block in blocks(page, "bash")
    for line in block.replace("\\\n", " ").splitlines()
}
JOBS = [
    words
    for words in COMMANDS
    if tuple(words) in IN_BLOCKS
    and words[0] == "python"
    and words[1] in SCRIPTS
    and not {"-m", "--help", "trainer.num_nodes=2"} & {*words}
]
SWEEPS = [words for words in COMMANDS if words[:3] == ["python", "train.py", "-m"] and "cluster=slurm" not in words]
PLACEHOLDERS = {"PIP_EXTRA_INDEX_URL=ADDRESS"}


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
