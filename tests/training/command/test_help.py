"""--help: examples, the command's own choices, and every setting with its comment."""

import ast
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from flows.training.command.show_help import help_text, read_comments
from tests.support.run import CONF

ROOT = Path(CONF).parent
COMMANDS = {
    "train.py": "train",
    "sample.py": "sample",
    **{
        f"scripts/{name}.py": name
        for name in (
            *("evaluate", "estimate", "quality", "superres", "codecs", "score"),
            *("compress", "decompress", "augment", "classify"),
        )
    },
    **{f"scripts/edit/{path.stem}.py": f"edit/{path.stem}" for path in (Path(CONF) / "edit").glob("*.yaml")},
}
GROUPS = {"model", "optimizer", "trainer", "callbacks", "logger", "data"}
SELF_EXPLAINING = ("_target_", "name", "ckpt_path", "directory", "dirpath", "path", "group")


def shown(name: str, *arguments: str) -> str:
    return help_text("About", Path(CONF), name, ["--help", *arguments])


def uncommented(text: str) -> list[str]:
    """Return the settings without a comment; an interpolation says itself what it follows from."""
    _, heading, settings = text.partition("Settings, set by KEY=VALUE:")
    assert heading
    lines = settings.splitlines()
    found = []
    for before, line in pairwise(lines):
        key, colon, rest = line.partition(":")
        value = rest.partition("  # ")[0].strip()
        if (
            not colon
            or not key.strip().isidentifier()
            or not value
            or "  # " in line
            or before.lstrip().startswith("# ")
        ):
            continue
        if not value.startswith("${") and key.strip() not in SELF_EXPLAINING:
            found.append(line.strip())
    return found


@pytest.mark.parametrize("name", COMMANDS.values())
def test_every_setting_has_a_comment(name: str) -> None:
    assert not uncommented(shown(name))


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_setting_of_every_choice_has_a_comment(group: str) -> None:
    for path in (Path(CONF) / group).glob("*.yaml"):
        if path.stem != "loader":
            assert not uncommented(shown("train", f"{group}={path.stem}")), path.stem


def test_a_command_lists_its_own_groups_only() -> None:
    assert "Choices of" not in shown("sample")
    assert "Choices of data=NAME (now fashion_mnist):" in shown("evaluate")
    assert "Choices of model" not in shown("evaluate") and "optimizer" not in shown("codecs")
    train = shown("train")
    for group in (*GROUPS, "experiment", "sweep", "cluster"):
        assert f"Choices of {group}=NAME" in train
    assert "hydra/" not in train and "sweep/space" not in train


def test_choices_say_what_they_are() -> None:
    assert "\n  adamax                       The optimizer of the original Glow release\n" in shown("train")
    assert "clothes, grey, 28x28 (Xiao et al. 2017)\n" in shown("evaluate")


def test_settings_follow_from_what_is_given_beside() -> None:
    assert "num_steps: 8  # K: steps per level" in shown("train")
    text = shown("train", "experiment=fashion_mnist_60min", "-m")
    assert "num_steps: 12  # K: steps per level" in text and "(now fashion_mnist_60min)" in text


def test_configs_of_ones_own_are_listed(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n# Mine. It is small.\nmodel:\n  num_steps: 3 # few\n"
    (tmp_path / "experiment/mine.yaml").write_text(text)
    found = shown("train", "--config-dir", str(tmp_path), "experiment=mine")
    assert "\n  mine                         Mine\n" in found and "num_steps: 3  # few\n" in found


def test_comments_stand_above_a_key_or_behind_it() -> None:
    top, found = read_comments(
        "# Top.\n# More.\na: 1 # one\n# above\nb:\n  c: 'x # y'\n  d: [1, 2] # it's two\n\ne: 5\n"
    )
    assert top == "Top. More."
    assert found == {"a": "one", "b": "above", "b.d": "it's two"}


@pytest.mark.parametrize("script", COMMANDS)
def test_every_command_uses_its_own_checkout(script: str) -> None:
    text = (ROOT / script).read_text()
    assert script in ("train.py", "sample.py") or "\nsys.path.insert(0, str(Path(__file__).parent" in text
    assert docstring_of(ROOT / script).partition("\n")[2].strip().startswith("Examples:")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train.py", "sample.py", "scripts/score.py", "scripts/edit/decode.py"])
def test_it_is_shown_from_the_shell(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(docstring_of(ROOT / script)) and "Settings, set by KEY=VALUE" in done.stdout
    assert not done.stderr and not os.listdir(tmp_path)


def docstring_of(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring is not None
    return docstring.strip()
