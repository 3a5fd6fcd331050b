"""The examples in Python hold, each by itself; those of the tutorial one after the other."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks, names_of, text

TUTORIAL = "docs/tutorial.md"
EXAMPLES = [(page, code) for page in PAGES if page != TUTORIAL for code in blocks(page, "python")]
IDS = [page for page, _ in EXAMPLES]


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=IDS)
def test_it_holds(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names_of(page, code)


@pytest.mark.slow
def test_the_tutorial_holds_and_makes_its_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TUTORIAL in PAGES
    monkeypatch.chdir(tmp_path)
    names_of(TUTORIAL, "\n".join(blocks(TUTORIAL, "python")))
    shown = re.findall(r"\]\((\w+\.png)\)", text(TUTORIAL))
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())
