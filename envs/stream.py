"""Streams of independent examples sampled from a table in memory; among them points on the two sides of a hyperplane,
`antiphon/Hyperplane-v0`: data small enough for theory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.utils import seeding
from torch import Tensor

from antiphon.envs.base import SingleLane, StepResult, TorchVectorEnv, chosen
from antiphon.envs.options import HyperplaneOptions
from antiphon.envs.signal import Description
from antiphon.nets.random import integers, normal, seed_for, uniform

__all__ = ["Draws", "ExampleStream", "HyperplaneExample", "HyperplaneStream", "Table"]

_BLOCK = 64
"""Examples per environment that are sampled in one call; changes the meaning of a seed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Examples of a data set, a row each, and the rows of each split."""

    columns: dict[str, Tensor]
    """`[rows, *shape]` each."""
    splits: dict[str, Tensor]
    """Rows of each split, int64."""
    divisors: dict[str, float] = field(default_factory=dict)
    """Divisors of the columns kept as bytes, applied after conversion to floats."""

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Table:
        """Return the table on a device and with a float type; tensors that match are not copied."""
        columns = {
            name: column.to(device, dtype if column.is_floating_point() else column.dtype)
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, splits={k: rows.to(device) for k, rows in self.splits.items()})


class Draws:
    """Rows of a split sampled with replacement: a pure function of (seed, number, environment).

    Args:
        rows: Of the split, int64.
        num_envs: Number of environments (the batch).
    """

    def __init__(self, rows: Tensor, num_envs: int) -> None:
        self._rows = rows
        self._num_envs = num_envs
        self._drawn: tuple[int, int] | None = None  # seed and number of the block held
        self._block = torch.empty(0)

    def rows(self, seed: int, number: int) -> Tensor:
        """Return the row of each environment's example of that number, int64 `[batch]`."""
        number, place = divmod(number, _BLOCK)
        if self._drawn != (seed, number):
            count = self._num_envs * _BLOCK
            sampled = integers(seed_for(seed, "env"), number, count, len(self._rows), self._rows.device)
            # Environment-major: an environment's examples do not depend on their number.
            self._block = self._rows[sampled].view(self._num_envs, _BLOCK).t().contiguous()
            self._drawn = seed, number
        return self._block[place]


class ExampleStream(TorchVectorEnv):
    """A stream of independent examples, sampled with replacement, each repeated for `hold` steps.

    Description:
        Example k of environment b is a pure function of (seed, k, b), independent of history and batch.
    Action space:
        A guess at the `answer`, `Discrete(classes)`; without an answer there is one action, without effect.
        `step(None)` makes no guess.
    Observation space:
        The requested signals that are not training-only; the others are in `info`.
    Rewards:
        1.0 where the guess is the answer, else 0.0.
    Episode end:
        Never; where `episode_steps` is the hold, every environment terminates with its example.

    Args:
        num_envs: Number of environments (the batch).
        table: The examples.
        description: Signals, hold and splits.
        answer: The categorical column that actions guess, or None.
        split: The part of the data that is streamed.
        device: Of the tensors.
        dtype: The type of float signals.

    Raises:
        ScenarioError: There is no such split.
    """

    def __init__(
        self,
        num_envs: int,
        table: Table,
        description: Description,
        *,
        answer: str | None,
        split: str = "train",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        classes = description.signals[answer].classes if answer is not None else None
        super().__init__(num_envs, description, Discrete(classes or 1), device=device, dtype=dtype)
        self._check_split(split)
        self.split = split
        self._table = table.to(self.device, dtype)
        self._answer = answer
        self._seed: int | None = None
        self._example = 0  # examples of each environment since the last seed
        self._tick = 0  # steps of the present one
        self._draws = Draws(self._table.splits[split], num_envs)
        self._rows = torch.empty(0)
        self._observations: dict[str, Tensor] = {}
        self._info: dict[str, Tensor] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Go to the first example of a seed, or without one to the next example of the stream.

        Args:
            seed: Of the stream; equal seeds give equal examples. None: go on (at first: a random seed).
            options: Unused.

        Returns:
            Observations and info.
        """
        if seed is not None:
            self._seed, self._example = int(seed), 0
        elif self._seed is None:
            self._seed, self._example = seeding.np_random(None)[1], 0
        else:
            self._example += 1
        self._tick = 0
        self._show()
        return dict(self._observations), dict(self._info)

    def step(self, actions: Any = None) -> StepResult:
        """Score the guesses on the present examples, and go to the next step.

        Args:
            actions: Guessed classes `[batch]`, or their logits `[batch, classes]`; None: no guess.

        Returns:
            Observations, reward, terminated, truncated, info. While an example is held its tensors are the same
            objects: do not write into them. Where episodes ended, `info` has the last signals in `final_obs`
            and `final_info`.

        Raises:
            gymnasium.error.ResetNeeded: The stream was never reset.
            ScenarioError: Logits of another number of classes.
        """
        if self._seed is None:
            raise ResetNeeded("call reset() before step()")
        reward = self._reward(actions)
        last = self._observations, self._info
        self._tick += 1
        if self._tick == self.hold:
            self._tick = 0
            self._example += 1
            self._show()
        ended = self._tick == 0 and self.episode_steps is not None
        terminated = torch.full((self.num_envs,), ended, device=self.device)
        truncated = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        info: dict[str, Any] = dict(self._info)
        if ended:
            info.update(final_obs=last[0], final_info=last[1])
            info.update(_final_obs=terminated.clone(), _final_info=terminated.clone())
        return dict(self._observations), reward, terminated, truncated, info

    def batches(self, split: str, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield every example of a split once, in order: the requested signals, the last batch ragged."""
        self._check_split(split)
        rows = self._table.splits[split]
        for start in range(0, len(rows), size):
            yield self._signals_at(rows[start : start + size])

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the stream: `seed`, `example` and `tick`."""
        return {"seed": self._seed, "example": self._example, "tick": self._tick}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a place in the stream."""
        self._seed, self._example, self._tick = state["seed"], int(state["example"]), int(state["tick"])
        if self._seed is not None:
            self._show()

    def _show(self) -> None:
        """Look up the present example's rows and compute its signals."""
        self._rows = self._rows_of(self._example)
        self._observations, self._info = self._divide(self._signals_at(self._rows))

    def _rows_of(self, example: int) -> Tensor:
        """Return the table row of each environment's example of that number, int64 `[batch]`."""
        assert self._seed is not None
        return self._draws.rows(self._seed, example)

    def _signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the requested signals of some rows of the table, in the order of `requested`."""
        return {name: self._column(name, rows) for name in self.requested}

    def _column(self, name: str, rows: Tensor) -> Tensor:
        column = self._table.columns[name].index_select(0, rows)
        divisor = self._table.divisors.get(name)
        return column if divisor is None else column.to(self.dtype).div_(divisor)

    def _reward(self, actions: Any) -> Tensor:
        if actions is None or self._answer is None:
            return torch.zeros(self.num_envs, dtype=self.dtype, device=self.device)
        guess = chosen(torch.as_tensor(actions, device=self.device), int(self.single_action_space.n))  # type: ignore[attr-defined]
        return (guess == self._column(self._answer, self._rows)).to(self.dtype)


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
