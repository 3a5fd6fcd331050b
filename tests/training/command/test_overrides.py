"""Settings reach the config as they are typed, and advice reads back as the text that it is about."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from flows.training import command, from_here, override
from flows.training.command.overrides import tidy

TEXTS = [
    *[
        "plain.ckpt",
        "a=b.ckpt",
        "a==b",
        "x (1).ckpt",
        "f(1)",
        "it's",
        'a"b',
        "a,b",
        "[x]",
        "{",
        "#1",
        "100%",
        "ünï ✓",
        "-x",
        "",
    ],
    *[
        "$HOME",
        "${x}",
        "a\\${x}",
        "a\\",
        "a\\'b",
        "true",
        "null",
        "1e3",
        "2024_11_25",
        "007",
        " a ",
        "a\tb",
        "a;b&c|d",
        "`a`",
    ],
    *["!x", "a:b", "*?", "<>", "\\\\server\\x", "a\nb"],
]


def read_back(typed: str) -> object:
    value = OverridesParser.create().parse_override(typed).value()
    return OmegaConf.create({"key": value, "x": "reference"}).key


@pytest.mark.parametrize("text", TEXTS)
def test_an_advised_setting_is_read_as_the_text(text: str) -> None:
    (typed,) = shlex.split(override("key", text))
    assert read_back(typed) == text


@pytest.mark.slow
def test_shells_read_them_like_that() -> None:
    script = "; ".join(f"printf '%s\\0' {override('key', text)}" for text in TEXTS)
    shown = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True).stdout
    assert [read_back(typed) for typed in shown.split("\0")[:-1]] == TEXTS


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("ckpt=a=b.safetensors", "a=b.safetensors"),
        ("ckpt=my flow (2).ckpt", "my flow (2).ckpt"),
        ("ckpt=flow(2)", "flow(2)"),
        ("ckpt=a#b", "a#b"),
        ("ckpt=it's", "it's"),
        ("ckpt=ünï", "ünï"),
        ("+new=a=b", "a=b"),
        ("ckpt=~/x", "HOME/x"),
        ("ckpt='~/x'", "HOME/x"),
        ('out="~/a=b"', "HOME/a=b"),
        ("hydra.run.dir=~/runs/a", "HOME/runs/a"),
        ("ckpt=~", "HOME"),
        ("ckpt='a b'", "a b"),
        ("seed=3", 3),
        ("temperature=[0.5,1]", [0.5, 1]),
        ("ckpt=", ""),
    ],
)
def test_values_are_taken_as_typed(typed: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = value.replace("HOME", "/home/somebody") if isinstance(value, str) else value
    assert read_back(tidy([typed])[0]) == expected


def test_what_hydra_reads_by_itself_is_left_alone() -> None:
    arguments = ["lr=1,2", "lr=choice(1,2)", "~ema", "a=${b}", "a='x y'", "a=[1,2", "a={b:1}", "++a=null", "data=mnist"]
    assert tidy(arguments) == arguments


def test_options_may_stand_between_settings() -> None:
    assert tidy(["a=1", "-m", "b=1,2", "--config-dir", "here"]) == ["-m", "--config-dir", "here", "a=1", "b=1,2"]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--ckpt", "a.ckpt"], "ckpt=a.ckpt"),
        (["--ckpt=a=b.ckpt"], """'ckpt="a=b.ckpt"'"""),
        (["-ckpt", "a.ckpt"], "ckpt=a.ckpt"),
        (["\u2014ckpt", "a.ckpt"], "ckpt=a.ckpt"),
        (["ckpt", "a.ckpt"], "ckpt=a.ckpt"),
        (["ckpt", "=", "a.ckpt"], "ckpt=a.ckpt"),
        (["ckpt=", "a.ckpt"], "ckpt=a.ckpt"),
        (["ckpt", "=a.ckpt"], "ckpt=a.ckpt"),
        (["-run_id", "mine"], "run_id=mine"),
        (["--num-samples", "3"], "num_samples=3"),
    ],
)
def test_settings_in_other_forms_are_answered_with_theirs(arguments: list[str], advice: str) -> None:
    with pytest.raises(ValueError, match=r"KEY=VALUE|no such option") as error:
        tidy(arguments)
    assert str(error.value).endswith(f": write {advice}")
    assert tidy(shlex.split(advice)) == shlex.split(advice)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["glow"], "glow"),
        (["--lr"], "--lr"),
        (["-1"], "-1"),
        (["temperature=[0.5,", "1]"], "1]"),
        (["--cfg", "x"], "--cfg"),
        (["-cn"], "-cn"),
    ],
)
def test_other_mistakes_are_named(arguments: list[str], word: str) -> None:
    with pytest.raises(ValueError, match=r"KEY=VALUE|no such option|argument --c") as error:
        tidy(arguments)
    assert word in str(error.value)


def test_commands_run_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (None, "/nowhere"):
        if path is not None:
            monkeypatch.setenv("PATH", path)
        python, script, setting = shlex.split(command("sample.py", override("ckpt", "a=b")))
        assert Path(script).samefile(Path(__file__).parents[3] / "sample.py") and setting == 'ckpt="a=b"'
        assert os.access(python, os.X_OK) or path is None
    assert from_here(tmp_path / "outputs/a") == "outputs/a"
