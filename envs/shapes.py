"""A small substitute for CIFAR-10: ten coloured shapes on noisy backgrounds, generated on request.

Each of five hues is shared by two shapes, so that colour alone, which a linear classifier can use, determines a pair, and
only the shape, at any place and angle, determines the class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from antiphon.nets.random import integers, seed_for, uniform

SIDE = 32
"""Height and width of an image, in pixels."""
COUNTS = {"train": 2000, "validation": 500, "test": 500}
"""Images per split, in their order."""

_Array = NDArray[np.float64]


def _whole(u: _Array, v: _Array) -> NDArray[np.bool_]:
    return u * u + v * v < 1.1


def _odd(u: _Array) -> NDArray[np.bool_]:
    return u - np.floor(u) < 0.5


_FORMS: dict[str, Callable[[_Array, _Array], NDArray[np.bool_]]] = {
    "disc": lambda u, v: u * u + v * v < 0.62,
    "ring": lambda u, v: _whole(u, v) & (u * u + v * v > 0.45),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.7,
    "cross": lambda u, v: (
        (np.minimum(np.abs(u), np.abs(v)) < 0.27) & (np.maximum(np.abs(u), np.abs(v)) < 1.05)
    ),
    "triangle": lambda u, v: (v < 0.55) & (v > 1.73 * np.abs(u) - 1.05),
    "stripes": lambda u, v: _whole(u, v) & _odd(1.25 * u + 0.25),
    "checks": lambda u, v: _whole(u, v) & (_odd(u) ^ _odd(v)),
    "half": lambda u, v: _whole(u, v) & (u > 0),
    "crescent": lambda u, v: _whole(u, v) & ((u - 0.55) ** 2 + v * v > 0.62),
    "bars": lambda u, v: (np.abs(np.abs(u) - 0.55) < 0.27) & (np.abs(v) < 0.95),
}
"""Indicator function of each shape, in coordinates with a radius of about 1."""

CLASSES = tuple(_FORMS)
"""The shapes, in the order of the labels; neighbours (0 and 1, 2 and 3, …) share a hue."""


def pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Generate the images, `[count, 3, height, width]`, and their labels: the same on every machine, as many of each class."""
    count = sum(COUNTS.values())
    labels = (np.arange(count) % len(CLASSES)).astype(np.uint8)
    inside = _inside(labels)
    shape, ground = _colours(labels)
    pixels = np.where(inside[:, None], shape[:, :, None, None], ground[:, :, None, None])
    # uniform from -72 to 71 levels; six values are cut from each sampled integer
    sampled = integers(seed_for(0, "shapes", "noise"), 0, -(-pixels.size // 6), 1 << 48).numpy().astype("<i8")
    levels = sampled.view(np.uint8).reshape(-1, 8)[:, :6].reshape(-1)[: pixels.size].astype(np.int16)
    pixels += (levels * 9 // 16 - 72).reshape(pixels.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels


def _inside(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return bool `[count, height, width]`: the pixels of each picture's shape."""
    count = len(labels)
    angle, radius = _uniform("angle", count, -np.pi, np.pi), _uniform("radius", count, 7.0, 11.0)
    turn, tilt = np.cos(angle) / radius, np.sin(angle) / radius
    middle = (SIDE - 1) / 2
    across = np.arange(SIDE) - middle - _uniform("across", count, -6.0, 6.0)[:, None]
    down = np.arange(SIDE) - middle - _uniform("down", count, -6.0, 6.0)[:, None]
    inside = np.empty((count, SIDE, SIDE), np.bool_)
    for label, form in enumerate(_FORMS.values()):
        rows = np.flatnonzero(labels == label)
        x, y = across[rows, None, :], down[rows, :, None]
        c, s = turn[rows, None, None], tilt[rows, None, None]
        inside[rows] = form(c * x + s * y, c * y - s * x)
    return inside


def _colours(labels: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the colours `[count, 3]` of shapes and grounds, in levels from 0 to 255."""
    count = len(labels)
    hue = (labels // 2) / 5 + _uniform("hue", count, -0.07, 0.07)
    away = hue[:, None] - np.arange(3) / 3  # distance from red, green and blue, in turns
    weights = np.clip(1.5 - 4.5 * np.abs(away - np.round(away)), 0.0, 1.0)
    weights -= weights.mean(axis=1, keepdims=True)  # a hue and no brightness
    ground = 0.5 + _uniform("ground", 3 * count, -0.15, 0.15).reshape(count, 3)
    grey = _uniform("grey", count, -0.15, 0.15)[:, None]
    shape = ground + grey + _uniform("contrast", count, 0.33, 0.65)[:, None] * weights
    return np.rint(255 * shape).astype(np.int16), np.rint(255 * ground).astype(np.int16)


def _uniform(name: str, count: int, low: float, high: float) -> _Array:
    sampled: _Array = uniform(seed_for(0, "shapes", name), 0, count).numpy()
    return low + (high - low) * sampled
