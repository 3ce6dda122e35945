"""Points on the two sides of a hyperplane, `antiphon/Hyperplane-v0`: data small enough for theory."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from antiphon.envs.options import HyperplaneOptions
from antiphon.envs.single import SingleLane
from antiphon.envs.stream import ExampleStream, Table
from antiphon.nets.random import normal, seed_for, uniform

__all__ = ["HyperplaneExample", "HyperplaneStream"]


class HyperplaneStream(ExampleStream):
    """Normal points and their two classes, in epochs; with as many environments as points, each step has all.

    These are the data sets of Czarnecki et al. 2017, "Understanding synthetic gradients and decoupled neural
    interfaces", Table 2.

    Description:
        Points drawn from N(0, I), separated by a random hyperplane through the origin (`linear`), a tenth of them
        wrongly (`noisy`), or by nothing (`random`). Every point occurs once before one is repeated: the
        environments share one shuffled epoch after the other.
    Action space:
        `Discrete(2)`: a guess at the class.
    Observation space:
        `x` [size], float. `info` has `label`, int64, 0 or 1, and `onehot` [2], the same as floats.
    Rewards:
        1.0 for a right guess, else 0.0.
    Starting state:
        The first points of the seed's first epoch.
    Episode end:
        Never.

    Args:
        num_envs: Number of points per step (the batch).
        labels: linear, noisy or random.
        size: Dimensions of a point.
        points: How many points; None: ten per dimension, and at least 100.
        seed: Names the data set.
        split: train; it has all points.
        device: Of the tensors.
        dtype: The type of float signals.

    Raises:
        ScenarioError: An option that cannot be.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        labels: str = "linear",
        size: int = 2,
        points: int | None = None,
        seed: int = 0,
        split: str = "train",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        options = HyperplaneOptions(labels=labels, size=size, points=points, seed=seed, split=split)
        super().__init__(
            num_envs,
            _placed(options, torch.device(device), dtype),
            options.description(),
            answer="label",
            split=split,
            device=device,
            dtype=dtype,
        )

    def _rows_of(self, example: int) -> Tensor:
        assert self._seed is not None
        seed, rows = seed_for(self._seed, "env"), self._table.splits[self.split]
        first = example * self.num_envs
        epochs = range(first // len(rows), (first + self.num_envs - 1) // len(rows) + 1)
        orders = [uniform(seed, epoch, len(rows), self.device).argsort(stable=True) for epoch in epochs]
        start = first % len(rows)
        return rows[torch.cat(orders)[start : start + self.num_envs]]


@functools.lru_cache(maxsize=16)
def _placed(options: HyperplaneOptions, device: torch.device, dtype: torch.dtype) -> Table:
    """Return a data set on a device; all streams of it share its memory."""
    seed, count = options.seed, options.count
    x = normal(seed_for(seed, "hyperplane", "points"), 0, count * options.size).view(count, options.size)
    chance = uniform(seed_for(seed, "hyperplane", "labels"), 0, count)
    side = x @ normal(seed_for(seed, "hyperplane", "normal"), 0, options.size) > 0
    if options.labels == "noisy":
        side[chance.argsort()[: count // 10]] ^= True
    label = (chance < 0.5 if options.labels == "random" else side).long()
    onehot = torch.nn.functional.one_hot(label, 2).double()
    table = Table(columns={"x": x, "label": label, "onehot": onehot}, splits={"train": torch.arange(count)})
    return table.to(device, dtype)


class HyperplaneExample(SingleLane):
    """One environment of a `HyperplaneStream` as a plain Gymnasium environment: numpy in, numpy out.

    Args:
        options: The keyword arguments of `HyperplaneStream`.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(HyperplaneStream(1, **options))  # type: ignore[arg-type]
