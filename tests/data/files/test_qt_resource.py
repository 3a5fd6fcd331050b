"""Files out of Qt resource files of each version, whole or refused."""

from pathlib import Path

import pytest

from data.files.qt_resource import files_with_ending
from tests.support.qt_resource import write_rcc

FILES = {
    "game/a/one.webp": b"first",
    "game/b/two.webp": bytes(range(256)) * 20,
    "game/b/notes.qml": b"text",
    "é.webp": b"",
}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("compress", [False, True])
def test_files_come_out_as_they_went_in(tmp_path: Path, version: int, compress: bool) -> None:
    write_rcc(tmp_path / "game.rcc", FILES, version=version, compress=compress)
    found = dict(files_with_ending(tmp_path / "game.rcc", (".webp",)))
    assert found == {f"/{name}": content for name, content in FILES.items() if name.endswith(".webp")}


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "game.rcc").write_bytes(b"PK not a resource file")
    with pytest.raises(ValueError, match=r"game.rcc is no Qt resource file"):
        list(files_with_ending(tmp_path / "game.rcc", (".webp",)))


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, compress: bool) -> None:
    write_rcc(tmp_path / "whole.rcc", FILES, compress=compress)
    whole = (tmp_path / "whole.rcc").read_bytes()
    for length in (6, 22, 60, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.rcc").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is a damaged Qt resource file"):
            list(files_with_ending(tmp_path / "cut.rcc", (".webp",)))


def test_zstd_is_refused(tmp_path: Path) -> None:
    write_rcc(tmp_path / "game.rcc", {"one.webp": b"first"}, version=1)
    content = bytearray((tmp_path / "game.rcc").read_bytes())
    content[20 + 14 + 5] = 4  # the flags of the second node
    (tmp_path / "game.rcc").write_bytes(content)
    with pytest.raises(ValueError, match="compressed by zstd, which is not supported"):
        list(files_with_ending(tmp_path / "game.rcc", (".webp",)))
