"""Where patches lie."""

import numpy as np
import pytest

from antiphon.envs.images import grid, pixel_indices, positions


@pytest.mark.parametrize(
    ("count", "expected"), [(32, (8, 4)), (16, (4, 4)), (12, (4, 3)), (7, (7, 1)), (1, (1, 1))]
)
def test_grid_is_as_near_square_as_can_be(count: int, expected: tuple[int, int]) -> None:
    assert grid(count) == expected


def test_patches_reach_every_edge_and_stay_inside() -> None:
    corners = positions(32, 8, 28, 28)
    assert len(set(corners)) == 32
    assert {min(top for top, _ in corners), max(top for top, _ in corners)} == {0, 20}
    assert sorted({left for _, left in corners}) == [0, 6, 13, 20]


def test_the_order_is_a_fixed_permutation() -> None:
    corners = positions(16, 3, 8, 8)
    assert corners == positions(16, 3, 8, 8)
    assert corners != sorted(corners)
    assert corners[:3] == [(0, 1), (1, 3), (3, 0)]


def test_a_single_column_is_centred() -> None:
    assert {left for _, left in positions(7, 3, 8, 8)} == {2}
    assert positions(1, 4, 8, 8) == [(2, 2)]


def test_pixel_indices_cut_every_colour() -> None:
    picture = np.arange(3 * 6 * 8).reshape(3, 6, 8)
    first, second = pixel_indices([(2, 3), (0, 5)], 3, 6, 8, colours=3)
    assert np.array_equal(picture.flatten()[first].reshape(3, 3, 3), picture[:, 2:5, 3:6])
    assert np.array_equal(picture.flatten()[second].reshape(3, 3, 3), picture[:, :3, 5:])
