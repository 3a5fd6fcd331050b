"""Downloads: a mirror out of reach is given up."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import data.files.download
from data.files.download import download


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_mirror_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: socket.socket
) -> None:
    monkeypatch.setattr(data.files.download, "PROBE_SECONDS", 0.2)
    asked = []
    with pytest.raises(TimeoutError):
        download(lambda *_, **__: asked.append(True), f"http://127.0.0.1:{listening.getsockname()[1]}/", tmp_path)
    assert not asked


def test_a_download_cannot_stall_and_leaves_the_timeout_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def dataset(folder: Path, download: bool) -> None:
        limits.append(socket.getdefaulttimeout())
        raise OSError("connection lost")

    (tmp_path / "probe").touch()
    with pytest.raises(OSError, match="connection lost"):
        download(dataset, (tmp_path / "probe").as_uri(), tmp_path)
    assert limits == [data.files.download.STALL_SECONDS]
    assert socket.getdefaulttimeout() is None
