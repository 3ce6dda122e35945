"""Streams of labelled pictures: `antiphon/Digits-v0` and `antiphon/Mnist-v0`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from torch import Tensor

from antiphon.envs import digits, mnist
from antiphon.envs.options import ImageOptions
from antiphon.envs.patches import pixel_indices, positions
from antiphon.envs.stream import ExampleStream, Table

__all__ = ["ImageExample", "ImageStream"]


class ImageStream(ExampleStream):
    """Pictures of digits, whole, in halves or in patches, each shown for `hold` steps.

    Description:
        Independent pictures, drawn with replacement from a split.
    Action space:
        `Discrete(10)`: a guess at the class.
    Observation space:
        `image` [1, height, width], `left_half` and `right_half` [1, height, width / 2] and, where asked for,
        `patch_0` … [patch_size, patch_size], floats from 0 to 1. `info` has `label`, int64 from 0 to 9.
    Rewards:
        1.0 for a right guess, else 0.0.
    Starting state:
        The first picture of the seed.
    Episode end:
        Never (`episode: stream`), or with each picture (`episode: example`).

    Args:
        num_envs: Number of pictures shown at a time (the batch).
        data: digits (8x8, embedded) or mnist (28x28, see `antiphon.envs.download`).
        split: train, validation or test.
        hold: Steps for which each picture is shown.
        episode: stream or example.
        patches: Number of patches, None for none.
        patch_size: Height and width of a patch in pixels; None: 3 of 8, 8 of 28.
        device: Where the tensors are.
        dtype: The type of the pixels.

    Raises:
        ScenarioError: An option that cannot be.
        DataError: The data are missing or broken.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        data: str = "digits",
        split: str = "train",
        hold: int = 1,
        episode: str = "stream",
        patches: int | None = None,
        patch_size: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        options = ImageOptions(
            data=data, split=split, hold=hold, episode=episode, patches=patches, patch_size=patch_size
        )
        self._options = options
        super().__init__(
            num_envs,
            _table(data, os.environ.get("ANTIPHON_DATA")),
            options.description(),
            answer="label",
            split=split,
            device=device,
            dtype=dtype,
        )

    def request(self, names: Iterable[str]) -> None:
        """Compute only these signals from the next reset on; the patches among them are gathered at once."""
        super().request(names)
        side, size = self._options.side, self._options.patch_side
        self._patches = [name for name in self.requested if name.startswith("patch_")]
        corners = positions(self._options.patches or 1, size, side, side)
        chosen = [corners[int(name.removeprefix("patch_"))] for name in self._patches]
        self._pixels = torch.from_numpy(pixel_indices(chosen, size, side)).flatten().to(self.device)

    def _signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        side, half = self._options.side, self._options.side // 2
        values: dict[str, Tensor] = {}
        if any(name != "label" for name in self.requested):
            flat = self._column("image", rows)
            image = flat.view(-1, 1, side, side)
            values = {"image": image, "left_half": image[..., :half], "right_half": image[..., half:]}
            if self._patches:
                size = self._options.patch_side
                pieces = flat.index_select(1, self._pixels).view(len(rows), -1, size, size)
                values |= zip(self._patches, pieces.unbind(1), strict=True)
        if "label" in self.requested:
            values["label"] = self._column("label", rows)
        return {name: values[name] for name in self.requested}


@functools.lru_cache(maxsize=4)
def _table(data: str, folder: str | None) -> Table:
    """Return a data set, read once per process and folder; all streams of it share its memory."""
    found = digits.load() if data == "digits" else mnist.load()
    pixels = torch.from_numpy(np.array(found.pixels)).flatten(1)
    return Table(
        columns={"image": pixels, "label": torch.from_numpy(found.labels.astype(np.int64))},
        splits={name: torch.from_numpy(rows) for name, rows in found.splits.items()},
        divisors={"image": float(found.white)},
    )


class ImageExample(gymnasium.Env[dict[str, NDArray[Any]], int]):
    """One lane of an `ImageStream` as a plain Gymnasium environment: numpy in, numpy out.

    Args:
        options: The keyword arguments of `ImageStream`.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium declares it an instance attribute

    def __init__(self, **options: Any) -> None:
        self._stream = ImageStream(1, **options)
        self.observation_space = self._stream.single_observation_space
        self.action_space: gymnasium.Space[Any] = Discrete(10)
        self._next: tuple[dict[str, Tensor], dict[str, Any]] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Show the first picture of a seed, or without one the next."""
        super().reset(seed=seed)
        shown = self._next if seed is None else None
        self._next = None
        return _single(*(shown or self._stream.reset(seed=seed)))

    def step(self, action: int | None) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Take a guess at the picture's class, and show the next step's picture."""
        obs, reward, terminated, _, info = self._stream.step(None if action is None else [int(action)])
        ended = bool(terminated.item())
        if ended:  # the stream has moved on to the next picture, this environment waits for its reset
            shown = info.pop("final_obs"), info.pop("final_info")
            self._next = obs, {name: info[name] for name in shown[1]}
            obs, info = shown
        observation, facts = _single(obs, info)
        return observation, reward.item(), ended, False, facts


def _single(obs: dict[str, Tensor], info: dict[str, Any]) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the only lane's observations as arrays of their own, and its labels as numbers."""
    return {name: value[0].numpy().copy() for name, value in obs.items()}, {
        name: int(value.item()) for name, value in info.items()
    }
