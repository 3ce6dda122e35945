"""Images of environments: arrays of pixels, drawn by Pillow."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from antiphon.envs.base import TorchVectorEnv

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
BLACK: Colour = (0, 0, 0)
Point = tuple[float, float]
_FINE = 3
"""Rows and columns of samples per pixel: edges are smoothed."""


class Pictured(TorchVectorEnv):
    """Environments that can be rendered as images."""

    @abstractmethod
    def _picture(self, row: int) -> NDArray[np.uint8]:
        """Return the picture `[height, width, 3]` of one environment."""

    def frame(self, row: int = 0) -> NDArray[np.uint8]:
        """Return an image `[height, width, 3]` of one environment; ResetNeeded before a reset."""
        self._require_reset("render()")
        return self._picture(row)

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Return an image `[height, width, 3]` of each environment."""
        return tuple(self.frame(row) for row in range(self.num_envs))


class Canvas:
    """An image; x increases to the right and y downwards, in pixels.

    Args:
        background: Background colour.
    """

    def __init__(self, height: int, width: int, background: Colour = (255, 255, 255)) -> None:
        self._image = Image.new("RGB", (width * _FINE, height * _FINE), background)
        self._draw = ImageDraw.Draw(self._image)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        self._draw.rectangle(_box(left, top, right, bottom), colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self._draw.ellipse(_box(x - radius, y - radius, x + radius, y + radius), colour)

    def line(self, start: Point, end: Point, thickness: float, colour: Colour) -> None:
        """Draw a straight line with flat ends from (x, y) to (x, y)."""
        ends = tuple(side * _FINE for point in (start, end) for side in point)
        self._draw.line(ends, colour, round(thickness * _FINE))

    def image(self, left: int, top: int, pixels: NDArray[np.uint8], scale: int) -> None:
        """Draw an image `[height, width]` or `[height, width, 3]`, each of its pixels as a square of `scale` pixels."""
        image = Image.fromarray(pixels)
        size = image.width * scale * _FINE, image.height * scale * _FINE
        self._image.paste(image.resize(size, Image.Resampling.NEAREST), (left * _FINE, top * _FINE))

    def pixels(self) -> NDArray[np.uint8]:
        """Return the image, `[height, width, 3]`."""
        return np.array(self._image.reduce(_FINE))


def _box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """Return the first and the last row and column of samples in a rectangle."""
    return left * _FINE, top * _FINE, right * _FINE - 1, bottom * _FINE - 1
