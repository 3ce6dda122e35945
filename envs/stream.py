"""Streams of independent examples sampled from a table in memory, and points on the two sides of a hyperplane,
`antiphon/Hyperplane-v0`: data small enough for theory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import SeededEnv, check_split, chosen
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description, Signal
from antiphon.nets.random import integers, normal, seed_for, uniform

_BLOCK = 64
"""Examples per environment that are sampled in one call; changing it changes the samples of a seed."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Examples of a data set, one per row, and the rows of each split."""

    columns: dict[str, Tensor]
    """`[rows, *shape]` each."""
    splits: dict[str, Tensor]
    """Rows of each split, int64."""
    divisors: dict[str, float] = field(default_factory=dict)
    """Divisors of the columns stored as bytes, applied after conversion to floats."""
    others: dict[str, Tensor] = field(default_factory=dict)
    """Further tensors that a stream reads, of whole numbers."""
    _placed: dict[tuple[str, torch.dtype], Self] = field(default_factory=dict, init=False, repr=False)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the table on a device and with a float type, the same at every call; tensors that already match are not copied."""
        if (key := (str(device), dtype)) not in self._placed:
            columns, splits, others = (
                {
                    name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
                    for name, tensor in tensors.items()
                }
                for tensors in (self.columns, self.splits, self.others)
            )
            self._placed[key] = replace(self, columns=columns, splits=splits, others=others)
        return self._placed[key]


def drawn(rows: Tensor, num_envs: int, seed: int, block: int) -> Tensor:
    """Return rows of a split sampled with replacement for the examples of a block, int64 `[_BLOCK, num_envs]`."""
    sampled = integers(seed_for(seed, "env"), block, num_envs * _BLOCK, len(rows), rows.device)
    # Environment-major: an environment's examples do not depend on their number.
    return rows[sampled].view(num_envs, _BLOCK).t().contiguous()


def shuffled(rows: Tensor, seed: int, epoch: int) -> Tensor:
    """Return the rows of a split in the order of an epoch, a pure function of (seed, epoch)."""
    chance = uniform(seed_for(seed, "env"), epoch, len(rows), rows.device)
    return rows[chance.argsort(stable=True)]


class ExampleStream(SeededEnv):
    """A stream of independent examples, each repeated for `hold` steps.

    Description:
        Every example once per epoch, in an order that is a pure function of seed and epoch: example k of environment b is
        number k * batch + b of all epochs. If the description's `sampling` is `with_replacement`, it is a pure function of
        (seed, k, b), independent of history and batch, and there are no epochs.
    Action space:
        The guessed `answer`, `Discrete(classes)`, as classes `[batch]` or their logits `[batch, classes]`; without an
        answer there is one action, without effect. `step(None)` makes no guess.
    Observation space:
        The requested signals that are not training-only; the others are in `info`. While an example is held, its tensors
        are the same objects: do not write into them.
    Rewards:
        1.0 if the guess is the answer, else 0.0.
    Episode end:
        Never; where `episode_steps` is the hold, every environment terminates with its example.

    Args:
        num_envs: Environments, which are the batch.
        answer: The categorical column that actions guess, or None.
        settings: `device` and `dtype`, see `TorchVectorEnv`.

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
        **settings: Any,
    ) -> None:
        classes = description.signals[answer].classes if answer is not None else None
        super().__init__(num_envs, description, Discrete(classes or 1), **settings)
        check_split(split, self.splits)
        self.split = split
        self._table = table.to(self.device, self.dtype)
        self._divisors = {
            name: torch.tensor(divisor, dtype=self.dtype) for name, divisor in table.divisors.items()
        }
        self._answer = answer
        rows = self._table.splits[split]
        self.epoch_examples = len(rows) if description.sampling == "epochs" else None
        self._order = functools.lru_cache(2)(functools.partial(shuffled, rows))
        self._block = functools.lru_cache(1)(functools.partial(drawn, rows, num_envs))
        self._rows = torch.empty(0)

    def batches(self, split: str, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield every example of a split once, in order: the requested signals; the last batch may be smaller."""
        check_split(split, self.splits)
        rows = self._table.splits[split]
        for start in range(0, len(rows), size):
            yield self.signals_at(rows[start : start + size])

    def _open(self) -> None:
        self._rows = self.rows_of(self._number)
        self._shown = self._divide(self.signals_at(self._rows))

    def rows_of(self, example: int) -> Tensor:
        """Return the table row of each environment's example of that number, int64 `[batch]`.

        The environments share one epoch after the other: an incomplete batch is filled from the next epoch.
        """
        assert self._seed is not None
        if self.epoch_examples is None:
            block, offset = divmod(example, _BLOCK)
            return self._block(self._seed, block)[offset]
        epoch, start = divmod(example * self.num_envs, self.epoch_examples)
        after = -(-(start + self.num_envs) // self.epoch_examples)
        orders = [self._order(self._seed, epoch + further) for further in range(after)]
        return (orders[0] if after == 1 else torch.cat(orders))[start : start + self.num_envs]

    def signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the requested signals of some rows of the table, in the order of `requested`.

        Override it for signals that are not columns of the table.
        """
        columns = {name: self.column(name, rows) for name in self.requested}
        masks = [mask for name in self.requested if (mask := f"_{name}") in self._table.columns]
        return columns | {mask: self._table.columns[mask].index_select(0, rows) for mask in masks}

    def column(self, name: str, rows: Tensor) -> Tensor:
        """Return some rows of a column, bytes as floats."""
        column = self._table.columns[name].index_select(0, rows)
        return column / self._divisors[name] if name in self._divisors else column

    def _reward(self, actions: Any) -> Tensor | None:
        if actions is None or self._answer is None:
            return None
        given, classes = torch.as_tensor(actions, device=self.device), int(self.single_action_space.n)  # type: ignore[attr-defined]
        guess, rows = chosen(given, classes), self.num_envs
        fix = f"pass classes [{rows}] or logits [{rows}, {classes}]"
        require(guess.shape == (rows,), "env", f"actions are {list(given.shape)}; {fix}", ScenarioError)
        right = guess == self.answers(self._rows)
        mask = self._table.columns.get(f"_{self._answer}")
        return (right if mask is None else right & mask.index_select(0, self._rows).flatten()).to(self.dtype)

    def answers(self, rows: Tensor) -> Tensor:
        """Return the correct answers of some rows; override it if the answer is not a column of the table."""
        assert self._answer is not None
        return self.column(self._answer, rows)


class Hyperplane(ExampleStream):
    """Normally distributed points of two classes, in epochs; with as many environments as points, each step has all points.

    These are the data sets of Czarnecki et al. 2017, "Understanding synthetic gradients and decoupled neural
    interfaces", Table 2.

    Description:
        Points sampled from N(0, I) and labelled by the side of a random hyperplane through the origin (`linear`), with a
        tenth of the labels swapped (`noisy`), or at random (`random`). Every point occurs once before one is repeated: the
        environments share one shuffled epoch after the other.
    Observation space:
        `x` [size], float. `info` has `label`, int64, 0 or 1, and `onehot` [2], the same as floats. Actions guess the `label`.
    """

    class Options(EnvOptions):
        labels: Literal["linear", "noisy", "random"] = "linear"
        """`linear`: the side of a random hyperplane through the origin; `noisy`: the same with a tenth of the labels swapped;
        `random`: random labels."""
        size: int = Field(2, ge=1, le=10_000)
        """Dimensions of a point."""
        points: int | None = Field(None, ge=1, le=100_000)
        """Number of points; none: ten per dimension, at least 100."""
        seed: int = Field(0, ge=0)
        """Seed of the data set."""

        @property
        def count(self) -> int:
            return self.points or max(100, 10 * self.size)

    @staticmethod
    def describe(options: Options) -> Description:
        signals = {
            "x": Signal(shape=(options.size,)),
            "label": Signal(classes=2, training_only=True),
            "onehot": Signal(shape=(2,), training_only=True, low=0.0, high=1.0),
        }
        counts = {"train": options.count}
        return Description(signals=signals, example_counts=counts, is_stream=True, endless=True)

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        table, description = _points(options), self.describe(options)
        super().__init__(num_envs, table, description, answer="label", **settings)


@functools.lru_cache(maxsize=16)
def _points(options: Hyperplane.Options) -> Table:
    seed, count = options.seed, options.count
    x = normal(seed_for(seed, "hyperplane", "points"), 0, count * options.size).view(count, options.size)
    chance = uniform(seed_for(seed, "hyperplane", "labels"), 0, count)
    side = x @ normal(seed_for(seed, "hyperplane", "normal"), 0, options.size) > 0
    if options.labels == "noisy":
        side[chance.argsort()[: count // 10]] ^= True
    label = (chance < 0.5 if options.labels == "random" else side).long()
    onehot = torch.nn.functional.one_hot(label, 2).double()
    return Table(columns={"x": x, "label": label, "onehot": onehot}, splits={"train": torch.arange(count)})
