"""Edits of latents."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import flows
from flows.edits import Attribute, attribute_between, load_latents, path_through, resampled, save_latents, turned
from flows.fingerprint import fingerprint
from flows.image_flow import ImageFlow
from tests.support.perturb import perturb

SETTINGS = {"num_levels": 2, "num_steps": 1, "hidden_channels": 4}


def make(**settings: object) -> ImageFlow:
    torch.manual_seed(0)
    return perturb(flows.build("glow", image_shape=(3, 8, 8), **SETTINGS, **settings), 0.1)


@pytest.fixture
def flow() -> ImageFlow:
    return make()


@pytest.fixture
def zs(flow: ImageFlow) -> list[Tensor]:
    return flow.draw_latents(range(4))


def each(zs: list[Tensor]) -> list[list[Tensor]]:
    return [[z[k : k + 1] for z in zs] for k in range(len(zs[0]))]


def norm(zs: list[Tensor]) -> Tensor:
    return torch.cat([z.flatten(1) for z in zs], 1).norm(dim=1)


def test_a_fingerprint_is_that_of_the_weights(flow: ImageFlow) -> None:
    before = fingerprint(flow)
    assert before == fingerprint(make()) and len(before) == 16
    with torch.no_grad():
        next(flow.parameters()).view(-1)[0] += 1e-3
    assert fingerprint(flow) != before


@pytest.mark.parametrize("straight", [False, True])
def test_a_way_passes_its_points_in_equal_steps(zs: list[Tensor], straight: bool) -> None:
    along = path_through(each(zs)[:3], 5, straight=straight)
    assert all(len(level) == 11 for level in along)
    for place, point in zip((0, 5, 10), range(3), strict=True):
        for level, z in zip(along, zs, strict=True):
            torch.testing.assert_close(level[place], z[point])
    if straight:
        flat = torch.cat([level.flatten(1) for level in along], 1)[:6]
        steps = (flat[1:] - flat[:-1]).norm(dim=1)
        torch.testing.assert_close(steps, steps[:1].expand(5))
    middle = norm([level[2:3] for level in along]).item()
    ends = [norm([z[k : k + 1] for z in zs]).item() for k in range(2)]
    assert middle < min(ends) if straight else min(ends) < middle < max(ends)


def test_a_way_on_the_sphere_keeps_the_norm() -> None:
    one, other = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    one[0, 0], other[0, 1] = 2.0, 2.0
    (along,) = path_through([[one], [other]], 4)  # in equal angles, as the norms are equal
    torch.testing.assert_close(along.flatten(1).norm(dim=1), torch.full((5,), 2.0))
    torch.testing.assert_close(along[1, 0].item(), 2 * math.cos(math.pi / 8))
    (same,) = path_through([[one], [one]], 2)
    torch.testing.assert_close(same, one.expand(3, -1, -1, -1))


def test_one_image_is_no_way(zs: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="a way leads through at least two images, got 1"):
        path_through(each(zs)[:1], 3)


def test_levels_are_drawn_anew_and_others_kept(flow: ImageFlow, zs: list[Tensor]) -> None:
    new = resampled(flow, zs, [1], range(10, 14), temperature=0.5)
    assert torch.equal(new[0], zs[0])
    torch.testing.assert_close(new[1], 0.5 * flow.draw_latents(range(10, 14))[1])
    with pytest.raises(ValueError, match=r"levels are between 0 \(finest\) and 1, got \[2\]"):
        resampled(flow, zs, [2], range(4))
    with pytest.raises(ValueError, match="4 images and 3 seeds"):
        resampled(flow, zs, [0], range(3))


def test_an_attribute_is_the_difference_of_the_means(flow: ImageFlow, zs: list[Tensor], tmp_path: Path) -> None:
    having = [[z[:1] for z in zs], [z[1:3] for z in zs]]
    attribute = attribute_between(flow, "hats", having, [[z[3:] for z in zs]])
    assert (attribute.num_with, attribute.num_without) == (3, 1)
    moved = attribute.applied([z[3:] for z in zs], 1)
    for level, z in zip(moved, zs, strict=True):
        torch.testing.assert_close(level[0], z[:3].mean(0))
    attribute.save(tmp_path / "hats.safetensors")
    again = Attribute.load(tmp_path / "hats.safetensors", flow)
    assert (again.name, again.num_with, again.num_without) == ("hats", 3, 1)
    assert all(map(torch.equal, again.direction, attribute.direction))
    with pytest.raises(ValueError, match="is an attribute of another flow"):
        Attribute.load(tmp_path / "hats.safetensors", make(top_prior="position"))
    with pytest.raises(ValueError, match="there is no image without hats"):
        attribute_between(flow, "hats", having, [])


def test_latents_come_back_from_a_file(flow: ImageFlow, zs: list[Tensor], tmp_path: Path) -> None:
    save_latents(tmp_path / "z.npz", flow, zs, ["a", "b", "c", "d"])
    again, names = load_latents(tmp_path / "z.npz", flow)
    assert all(map(torch.equal, again, zs)) and names == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="holds the latents of another flow"):
        load_latents(tmp_path / "z.npz", make(top_prior="position"))
    with pytest.raises(ValueError, match="holds the latents of another flow"):
        load_latents(tmp_path / "z.npz", flows.build("glow", image_shape=(3, 8, 8), **{**SETTINGS, "num_levels": 3}))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\3\4 cut off", b"\x93NUMPY", None])
def test_files_that_are_none_are_named(flow: ImageFlow, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is None:
        np.savez(path.with_suffix(".npz"), other=np.zeros(3))
        path = path.with_suffix(".npz")
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="holds no latents"):
        load_latents(path, flow)
    with pytest.raises(ValueError, match="holds no attribute"):
        Attribute.load(path, flow)


def test_turned_latents_lie_at_the_angle_between_the_old_ones_and_new_ones(flow: ImageFlow, zs: list[Tensor]) -> None:
    seeds = range(10, 14)
    for old, still, half, new, drawn in zip(
        zs, *(turned(flow, zs, angle, seeds) for angle in (0, 60, 90)), flow.draw_latents(seeds), strict=True
    ):
        assert torch.equal(still, old)
        torch.testing.assert_close(new, drawn)
        torch.testing.assert_close(half, 0.5 * old + 0.75**0.5 * drawn)


def test_turned_latents_are_standard_normal_at_any_angle(flow: ImageFlow) -> None:
    zs = flow.draw_latents(range(300))
    for angle in (20, 45):
        found = torch.cat([z.flatten() for z in turned(flow, zs, angle, range(300, 600))])
        assert abs(found.mean()) < 0.02 and abs(found.std() - 1) < 0.02


def test_wrong_turns_are_refused(flow: ImageFlow, zs: list[Tensor]) -> None:
    for angle in (-1, 91, math.nan, "wide"):
        with pytest.raises(ValueError, match="angle is between 0 and 90 degrees, got"):
            turned(flow, zs, angle, range(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there are 4 images and 3 seeds: give one seed per image"):
        turned(flow, zs, 10, range(3))
