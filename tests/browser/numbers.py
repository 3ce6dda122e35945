"""What the tab must show, found without any of its code: event files by TensorBoard's own reader, colours by matplotlib."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.util import tensor_util  # type: ignore[import-untyped]

Colour = tuple[int, int, int]
"""Red, green, blue; 0 to 255."""


class Events:
    """The event files of a run, read whole.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._read = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()

    def series(self, tag: str) -> dict[int, NDArray[np.float32]]:
        """Return the rows under a tag by step."""
        return {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in self._read.Tensors(tag)}

    def document(self, tag: str) -> dict[str, Any]:
        """Return the newest document under a tag."""
        text = tensor_util.make_ndarray(self._read.Tensors(tag)[-1].tensor_proto).item()
        found: dict[str, Any] = json.loads(text)
        return found


def cividis(share: float) -> Colour:
    """Return the colour at a place between 0 and 1 of the scale."""
    red, green, blue, _ = colormaps["cividis"](share)
    return round(255 * red), round(255 * green), round(255 * blue)


_CIVIDIS = np.array([cividis(share) for share in np.linspace(0, 1, 1024)])


def place_on_cividis(colour: Colour) -> tuple[float, int]:
    """Return the place (0 to 1) of the scale's most similar colour, and how far that is (0 to 255)."""
    distances = np.abs(_CIVIDIS - np.array(colour)).max(1)
    nearest = int(distances.argmin())
    return nearest / (len(_CIVIDIS) - 1), int(distances[nearest])
