"""Counting digits at several timescales: `antiphon/CountDigits-v0`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import Values
from antiphon.envs.datasets import DATA_SETS, DigitsName
from antiphon.envs.images import picture_table
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import ExampleStream

_EVALUATED = 32
"""Windows of the highest level in one evaluation."""
_SO_FAR = "_so_far"
_COUNTED = ("odd", "threes", "sevens", "fives")
"""Counted digits of each level, the lowest first."""
_MOST_COUNTED = 4096


class CountDigits(ExampleStream):
    """A stream of digits; the targets are counts of odd digits, threes, sevens and fives over longer and longer windows.

    Generalises the two-network task of Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients",
    section 3.2, to more than two levels.

    Description:
        At every step each environment returns a new image, sampled with replacement from the split. Level 1 counts the odd
        digits in windows of `window` steps, level 2 the threes in windows of `window` squared, level 3 the sevens
        and level 4 the fives. Windows follow one another without a gap; the first ones begin at the reset.
    Observation space:
        `image` [colours, height, width], floats from 0 to 1. `info` has, known after the step, `odd`, `threes`,
        `sevens` and `fives` (one per level), int64: the count over the window that ends with the step,
        with masks `_odd`, …, bool; 0 if no window ends. Known at the tick, it has `odd_so_far`, …: the count
        from the start of the window to the present digit.
    """

    class Options(EnvOptions):
        data: DigitsName = "digits"
        """Data set: `digits` or `mnist`."""
        levels: int = Field(2, ge=1, le=len(_COUNTED))
        """Number of counts, 1 to 4: of odd digits, threes, sevens and fives."""
        window: int = Field(4, ge=2)
        """Digits in a window of the lowest level, from 2; the longest window is at most 4,096 steps."""

        @model_validator(mode="after")
        def _counts_fit(self) -> Self:
            many = f"{self.window}; {self.levels} levels would count over {self.longest} digits, at most {_MOST_COUNTED}"
            fits = self.longest <= _MOST_COUNTED
            require(fits, "window", f"{many} are allowed; lower window or levels", ScenarioError)
            return self

        @property
        def counts(self) -> tuple[tuple[str, int], ...]:
            """Name and window, in steps, of each level, the lowest first."""
            return tuple((_COUNTED[level], self.window ** (level + 1)) for level in range(self.levels))

        @property
        def longest(self) -> int:
            return int(self.window**self.levels)

    @staticmethod
    def describe(options: Options) -> Description:
        source = DATA_SETS[options.data]
        signals = {"image": Signal(shape=(source.colours, source.side, source.side), low=0.0, high=1.0)}
        for name, steps in options.counts:
            signals[name] = Signal(classes=steps + 1, training_only=True, known="after_step", every=steps)
        for name, steps in options.counts:
            signals[f"{name}_so_far"] = Signal(classes=steps + 1, training_only=True)
        counts = source.counts()
        return Description(signals=signals, example_counts=counts, endless=True, sampling="with_replacement")

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        self._options = options
        table, description = picture_table(options.data), self.describe(options)
        super().__init__(num_envs, table, description, answer=None, **settings)
        label = self._table.columns["label"]
        counted = {"odd": label % 2 == 1, "threes": label == 3, "sevens": label == 7, "fives": label == 5}
        self._counted = {name: counted[name].long() for name, _ in self._options.counts}
        self._start = 0  # the first digit after the last reset
        self._counts: dict[str, Tensor] = {}
        self._nothing = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def request(self, names: Iterable[str]) -> None:
        """Compute only these signals from the next reset on; other counts are not computed."""
        super().request(names)
        requested = {name.removesuffix(_SO_FAR) for name in self.requested}
        self._computed = [(name, steps) for name, steps in self._options.counts if name in requested]

    @property
    def evaluation_steps(self) -> int:
        return _EVALUATED * self._options.longest

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Begin new windows at the first digit of a seed, or without one at the next digit."""
        self._start = 0 if seed is not None or self._seed is None else self._number + 1
        return super().reset(seed=seed)

    def _known_after(self) -> dict[str, Tensor]:
        closed: dict[str, Tensor] = {}
        for name, steps in self._computed:
            if name in self.requested:
                closes = (self._number - self._start + 1) % steps == 0
                closed[name] = (self._counts[name] if closes else self._nothing).clone()
                closed[f"_{name}"] = self.everywhere(closes)
        return closed

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "start": self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a position in the stream, and recompute the counts of its windows."""
        self._seed, self._start, number = state["seed"], int(state["start"]), int(state["example"])
        longest = max((steps for _, steps in self._computed), default=1)
        if self._seed is not None:
            for earlier in range(number - (number - self._start) % longest, number):
                self._count(earlier)
        super().load_state_dict(state)

    def _count(self, number: int) -> None:
        """Add the digits of a number to the counts, which restart at the beginning of a window."""
        rows = self.rows_of(number)
        for name, steps in self._computed:
            counted = self._counted[name].index_select(0, rows)
            begins = (number - self._start) % steps == 0
            self._counts[name] = counted if begins else self._counts[name] + counted

    def _open(self) -> None:
        self._count(self._number)
        super()._open()

    def signals_at(self, rows: Tensor) -> dict[str, Tensor]:
        requested = [name for name in self.requested if name.endswith(_SO_FAR)]
        values = {name: self._counts[name.removesuffix(_SO_FAR)].clone() for name in requested}
        if "image" in self.requested:
            values["image"] = self.column("image", rows).view(-1, *self.signals["image"].shape)
        return values
