"""Two runs do not share a folder."""

from pathlib import Path

import pytest

from tests.support.command_line import run_script
from tests.training.callbacks.test_graceful_stop import THREE_EPOCHS, start_and_wait_for_steps


@pytest.mark.slow
def test_a_second_run_is_kept_out_of_the_folder_and_let_in_when_the_first_was_killed(tmp_path: Path) -> None:
    first = start_and_wait_for_steps(tmp_path)
    again = [*THREE_EPOCHS, "run_id=mine", "resume=auto"]
    second = run_script(tmp_path, "train.py", *again)
    assert second.exit_code == 1
    assert "outputs/mine is in use by another run: wait for its end, or give another run_id" in second.error
    first.process.kill()
    first.process.join()
    assert run_script(tmp_path, "train.py", *again).exit_code == 0
