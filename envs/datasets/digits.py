"""The embedded 8x8 digits: 1,797 images, shipped with their licence in `data/`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from antiphon.envs.datasets import idx
from antiphon.envs.datasets.dataset_files import Pictures

SIDE = 8
"""Height and width of an image, in pixels."""
COUNTS = {"train": 1293, "validation": 144, "test": 360}
"""Images per split."""
counts = COUNTS.copy

_FOLDER = Path(__file__).parents[1] / "data"
_MEND = "reinstall antiphon"


def load() -> Pictures:
    """Read the images and their splits.

    Sorted by class, every fifth image is for testing, and every tenth of the rest for validation: fixed
    splits with the same share of every class.
    """
    pixels = idx.read(_FOLDER / "digits-images-idx3-ubyte.gz", 3, _MEND)
    labels = idx.read(_FOLDER / "digits-labels-idx1-ubyte.gz", 1, _MEND)
    by_class = np.argsort(labels, kind="stable")
    index = np.arange(len(labels))
    rest = by_class[index % 5 != 0]
    index = np.arange(len(rest))
    splits = {"train": rest[index % 10 != 0], "validation": rest[index % 10 == 0], "test": by_class[::5]}
    return Pictures(
        pixels=pixels, labels=labels, splits={name: np.sort(rows) for name, rows in splits.items()}, white=16
    )
