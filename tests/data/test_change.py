"""Changes of whole data sets."""

import pytest
import torch
from torch import Tensor

from data import Changed, Condition, Digits, Grey, Invert, Resize, Rotate, ShuffleTiles

COLOUR = torch.randint(0, 256, (5, 3, 6, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


CHANGES = [Invert(), Rotate(1), Rotate(2), Resize(12, 5), Grey(), ShuffleTiles(2)]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_images_have_the_shape_that_the_change_states(change: Condition) -> None:
    changed = change(COLOUR)
    assert changed.dtype == torch.uint8 and changed.shape == (5, *change.shape((3, 6, 8)))


def test_a_change_and_its_reverse_give_the_images_back() -> None:
    assert torch.equal(Invert()(Invert()(COLOUR)), COLOUR) and not torch.equal(Invert()(COLOUR), COLOUR)
    turned: Tensor = COLOUR
    for _ in range(4):
        turned = Rotate(1)(turned)
    assert torch.equal(turned, COLOUR) and torch.equal(Rotate(2)(COLOUR), COLOUR.flip(2, 3))


def test_one_grey_level_stays_that_level() -> None:
    flat = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)
    assert (Resize(9, 2)(flat) == 77).all() and (Grey()(flat) == 77).all()


def test_tiles_stay_whole_and_change_places_alike_in_all_images() -> None:
    def tiles(images: Tensor) -> list[Tensor]:
        return [tile for rows in images.split(2, 2) for tile in rows.split(2, 3)]

    before, after = tiles(COLOUR), tiles(ShuffleTiles(2)(COLOUR))
    places = [next(k for k, old in enumerate(before) if torch.equal(new, old)) for new in after]
    assert sorted(places) == [*range(12)] and places != [*range(12)]
    assert torch.equal(ShuffleTiles(2)(COLOUR[3:]), ShuffleTiles(2)(COLOUR)[3:])
    assert not torch.equal(ShuffleTiles(2, seed=1)(COLOUR), ShuffleTiles(2)(COLOUR))


def test_a_changed_source_keeps_labels_and_splits() -> None:
    pytest.importorskip("sklearn")
    for whole, large in zip(Digits().load(), Changed(Digits(), Resize(28, 28)).load(), strict=True):
        assert large.image_shape == (1, 28, 28) and torch.equal(large.labels, whole.labels)
        assert large.class_names == whole.class_names
        assert torch.equal(large[[4, 1]].images, Resize(28, 28)(whole[[4, 1]].images))


def test_impossible_changes_are_refused() -> None:
    with pytest.raises(ValueError, match="height and width must be at least 1, got 0 and 4"):
        Resize(0, 4)
    with pytest.raises(ValueError, match="the side of a tile must be at least 1, got 0"):
        ShuffleTiles(0)
    with pytest.raises(ValueError, match="images of 6x8 pixels cannot be cut into tiles of 4x4: give a side that"):
        ShuffleTiles(4)(COLOUR)
    with pytest.raises(ValueError, match=r"images with 1 channels are no colour images: leave data\.Grey out"):
        Changed(Digits(), Grey()).load()
