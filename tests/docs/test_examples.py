"""The examples in Python hold, each by itself."""

import pytest

from tests.docs.pages import PAGES, blocks, names_of

EXAMPLES = [(page, code) for page in PAGES for code in blocks(page, "python")]
IDS = [page for page, _ in EXAMPLES]


@pytest.mark.parametrize(("page", "code"), EXAMPLES, ids=IDS)
def test_it_holds(page: str, code: str) -> None:
    names_of(page, code)
