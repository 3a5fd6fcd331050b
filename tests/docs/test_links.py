"""Links between pages and to files lead somewhere, and every page can be reached from README.md."""

import pytest

from tests.docs.pages import HISTORY, PAGES, ROOT, anchors, links


def test_every_page_can_be_reached() -> None:
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")} <= {*PAGES}


@pytest.mark.parametrize("page", [*PAGES, HISTORY])
def test_its_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(page):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(path), f"{path}#{anchor}"


def test_every_picture_is_shown() -> None:
    pictures = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.png")}
    assert pictures <= {path for page in PAGES for path, _ in links(page)}
