"""Ctrl-C ends a command with one sentence and status 130, however many layers it goes through."""

from collections.abc import Callable

import pytest

from flows.training.command.command_line import one_sentence


def ctrl_c() -> None:
    raise KeyboardInterrupt


def ctrl_c_in_lightning() -> None:
    try:
        ctrl_c()
    except KeyboardInterrupt:
        raise SystemExit(1)  # noqa: B904


def told_ctrl_c() -> None:
    raise KeyboardInterrupt("interrupted: the same command goes on")


@pytest.mark.parametrize(
    ("stop", "sentence"),
    [
        (ctrl_c, "interrupted"),
        (ctrl_c_in_lightning, "interrupted"),
        (told_ctrl_c, "interrupted: the same command goes on"),
    ],
)
def test_it_is_told_once(stop: Callable[[], None], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, one_sentence("sample"), one_sentence("sample"):
        stop()
    assert end.value.code == 130
    assert capsys.readouterr().err == f"{sentence}\n"
