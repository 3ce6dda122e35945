"""Drawing: what is covered has the colour, edges are mixed, and what is outside is left out."""

import numpy as np

from antiphon.envs.worlds.canvas import Canvas

RED = (200, 0, 0)


def covered(canvas: Canvas) -> float:
    """How many pixels are red, by their share of it on white."""
    return float((255 - canvas.pixels()[..., 1].astype(float)).sum() / 255)


def test_shapes_have_their_areas() -> None:
    for draw, area in (
        (lambda c: c.rectangle(2, 3, 7, 9, RED), 30),
        (lambda c: c.disc(10, 10, 5, RED), np.pi * 25),
        (lambda c: c.line((3, 3), (15, 12), 4, RED), 15 * 4),
    ):
        canvas = Canvas(20, 25)
        draw(canvas)
        assert abs(covered(canvas) - area) < 2
