"""Images of environments: arrays of pixels, drawn without a graphics library."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from antiphon.envs.base import TorchVectorEnv

__all__ = ["BLACK", "Canvas", "Colour", "Pictured"]

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
BLACK: Colour = (0, 0, 0)
_FINE = 3
"""Rows and columns of samples per pixel."""


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
    """An image; x increases to the right and y downwards, in pixels. Edges are smoothed with several samples per pixel.

    Args:
        background: Background colour.
    """

    def __init__(self, height: int, width: int, background: Colour = (255, 255, 255)) -> None:
        self._size = height, width
        self._fine = np.full((height * _FINE, width * _FINE, 3), background, np.uint8)
        # Centres of the samples.
        self._y = (np.arange(height * _FINE)[:, None] + 0.5) / _FINE
        self._x = (np.arange(width * _FINE)[None, :] + 0.5) / _FINE

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle."""
        rows = np.flatnonzero((self._y[:, 0] >= top) & (self._y[:, 0] < bottom))
        columns = np.flatnonzero((self._x[0] >= left) & (self._x[0] < right))
        self._fine[np.ix_(rows, columns)] = colour

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Fill a circle."""
        self._fine[(self._x - x) ** 2 + (self._y - y) ** 2 <= radius**2] = colour

    def line(self, start: Sequence[float], end: Sequence[float], thickness: float, colour: Colour) -> None:
        """Draw a straight line with flat ends from (x, y) to (x, y); a line of length 0 is not drawn."""
        along = np.subtract(end, start)
        length = float(np.hypot(*along))
        if length == 0:
            return
        across, down = self._x - start[0], self._y - start[1]
        forward = (across * along[0] + down * along[1]) / length
        aside = np.abs(across * along[1] - down * along[0]) / length
        self._fine[(forward >= 0) & (forward <= length) & (aside <= thickness / 2)] = colour

    def image(self, left: int, top: int, pixels: NDArray[np.uint8], scale: int) -> None:
        """Draw an image `[height, width]` or `[height, width, 3]`, each of its pixels as a square of `scale` pixels."""
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        large = pixels.repeat(scale * _FINE, axis=0).repeat(scale * _FINE, axis=1)
        top, left = top * _FINE, left * _FINE
        self._fine[top : top + large.shape[0], left : left + large.shape[1]] = large

    def pixels(self) -> NDArray[np.uint8]:
        """Return the image, `[height, width, 3]`."""
        height, width = self._size
        samples = self._fine.reshape(height, _FINE, width, _FINE, 3).astype(np.uint16)
        mean: NDArray[np.uint8] = ((samples.sum(axis=(1, 3)) + _FINE**2 // 2) // _FINE**2).astype(np.uint8)
        return mean
