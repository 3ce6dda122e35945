"""Streams of labelled images, whole or in patches: `antiphon/Digits-v0`."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.envs.datasets import DATA_SETS, DataName, DataSet, find_folder
from antiphon.envs.options import HeldOptions
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream, Table


def patch_pixels(count: int, size: int, side: int, colours: int) -> NDArray[np.int64]:
    """Return the indices of each patch's pixels in a flattened image, `[patches, colours * size * size]`.

    The patches are in rows and columns, as near square as possible, with at least as many rows; evenly spaced from edge to
    edge (a single column is centred), they overlap or leave gaps as necessary. Their order is a fixed permutation, so that
    consecutive patches are not neighbours.
    """
    columns = next(width for width in range(math.isqrt(count), 0, -1) if count % width == 0)
    rows, offsets = (_evenly_spaced(number, side - size) for number in (count // columns, columns))
    corners = np.add.outer(side * np.array(rows), np.array(offsets)).flatten()
    # RandomState's numbers are frozen by numpy's compatibility policy.
    corners = corners[np.random.RandomState(0).permutation(count)]
    inside = np.add.outer(side * np.arange(size), np.arange(size))
    planes = np.add.outer(side * side * np.arange(colours), inside)
    pixels: NDArray[np.int64] = np.add.outer(corners, planes.flatten())
    return pixels


def _evenly_spaced(count: int, last: int) -> list[int]:
    if count == 1:
        return [last // 2]
    return [int(position) for position in np.linspace(0, last, count)]


class Digits(ExampleStream):
    """Labelled images, whole, in halves or in patches, each repeated for `hold` steps.

    Actions guess the `label`; see `ExampleStream`.

    Observation space:
        `image` [colours, height, width], `left_half` and `right_half` [colours, height, width / 2] and, with
        `patches`, `patch_0` … [patch_size, patch_size] (for coloured images [3, patch_size, patch_size]), floats from 0
        to 1. `info` has `label`, int64 from 0 to 9.
    """

    class Options(HeldOptions):
        data: DataName = "digits"
        """Data set: `digits`, `mnist`, `cifar10` or `shapes`."""
        patches: int | None = Field(None, ge=1, le=1024)
        """Number of patches, the signals `patch_0`, `patch_1`, …"""
        patch_size: int | None = Field(None, ge=1)
        """Height and width of a patch, in pixels; none: 3 for 8x8 images, else 8."""

        @model_validator(mode="after")
        def _patches_fit(self) -> Self:
            size, side = self.patch_size, self.source.side
            if size is not None and size > side:
                raise ScenarioError(f"patch_size: {size}; must be a whole number from 1 to {side}")
            if size is not None and self.patches is None:
                raise ScenarioError(f"patch_size: {size}, but patches is not set; set patches")
            return self

        @property
        def source(self) -> DataSet:
            return DATA_SETS[self.data]

        @property
        def patch_shape(self) -> tuple[int, ...]:
            """Shape of a patch; for grey images without an axis for colours."""
            side = self.patch_size or self.source.patch_size
            return (side, side) if self.source.colours == 1 else (self.source.colours, side, side)

    @staticmethod
    def describe(options: Options) -> Description:
        colours, side = options.source.colours, options.source.side
        shapes: dict[str, tuple[int, ...]] = {"image": (colours, side, side)}
        shapes |= dict.fromkeys(("left_half", "right_half"), (colours, side, side // 2))
        shapes |= {f"patch_{number}": options.patch_shape for number in range(options.patches or 0)}
        signals = {name: Signal(shape=shape, low=0.0, high=1.0) for name, shape in shapes.items()}
        signals["label"] = Signal(classes=10, training_only=True)
        return options.described(signals, options.source.counts())

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        self._options, self._source = options, options.source
        table, description = picture_table(options.data), self.describe(options)
        super().__init__(num_envs, table, description, answer="label", **settings)

    def request(self, names: Iterable[str]) -> None:
        """Compute only these signals from the next reset on; requested patches are gathered together."""
        super().request(names)
        self._patches = [name for name in self.requested if name.startswith("patch_")]
        if self._patches:
            source, size = self._source, self._options.patch_shape[-1]
            every = patch_pixels(self._options.patches or 1, size, source.side, source.colours)
            pixels = every[[int(name.removeprefix("patch_")) for name in self._patches]]
            self._pixels = torch.from_numpy(pixels).flatten().to(self.device)

    def signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the requested signals of some images: images, halves and patches are views of one tensor."""
        side, half = self._source.side, self._source.side // 2
        values: dict[str, Tensor] = {}
        if any(name != "label" for name in self.requested):
            flat = self.column("image", rows)
            image = flat.view(-1, self._source.colours, side, side)
            values = {"image": image, "left_half": image[..., :half], "right_half": image[..., half:]}
            if self._patches:
                pieces = flat.index_select(1, self._pixels)
                pieces = pieces.view(len(rows), len(self._patches), *self._options.patch_shape)
                values |= zip(self._patches, pieces.unbind(1), strict=True)
        if "label" in self.requested:
            values["label"] = self.column("label", rows)
        return {name: values[name] for name in self.requested}


def picture_table(data: DataName) -> Table:
    """Return a data set as `image` (bytes, flat) and `label`, shared by all users; DataError for damaged files."""
    return _table(data, find_folder(data))


@functools.lru_cache(maxsize=4)
def _table(data: DataName, folder: Path | None) -> Table:
    pictures = DATA_SETS[data].load()
    return Table(
        columns={
            "image": torch.from_numpy(np.require(pictures.pixels, requirements="W")).flatten(1),
            "label": torch.from_numpy(pictures.labels.astype(np.int64)),
        },
        splits={name: torch.from_numpy(rows) for name, rows in pictures.splits.items()},
        divisors={"image": float(pictures.white)},
    )
