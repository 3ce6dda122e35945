"""The axes of a prediction: where its classes are."""

from __future__ import annotations

import pytest

from antiphon.engine.split.outputs import axes_for


@pytest.mark.parametrize(
    ("shape", "target", "classes", "order"),
    [
        ((6, 7), (6,), 7, None),
        ((7, 6), (6,), 7, (1, 0)),
        ((7, 7), (7,), 7, None),  # as many tokens as classes: tokens come first
        ((5, 2, 4), (2, 4), 5, (1, 2, 0)),
        ((2, 4, 5), (2, 4), 5, None),
        ((3, 3, 3), (3, 3), 3, (1, 2, 0)),  # as many rows as classes: maps have their classes first
        ((5, 2, 3, 4), (2, 3, 4), 5, (1, 2, 3, 0)),
        ((7,), (), 7, None),
        ((6, 7), (6, 7), None, None),
        ((6, 9), (6,), 7, None),
    ],
)
def test_classes_are_given_out_last(
    shape: tuple[int, ...], target: tuple[int, ...], classes: int | None, order: tuple[int, ...] | None
) -> None:
    assert axes_for(shape, target, classes) == order
