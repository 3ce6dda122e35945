"""Counting digits at several timescales: `antiphon/CountDigits-v0`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from gymnasium.spaces import Discrete
from pydantic import Field, model_validator
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import SeededEnv, Values
from antiphon.envs.datasets import DATA_SETS, DigitsName
from antiphon.envs.images import picture_table
from antiphon.envs.options import EnvOptions, Split
from antiphon.envs.signal import Description, Signal
from antiphon.envs.stream import Draws

_EVALUATED = 32
"""Windows of the highest level in one evaluation."""
_SO_FAR = "_so_far"
_COUNTED = ("odd", "threes", "sevens", "fives")
"""Counted digits of each level, the lowest first."""
_MOST_COUNTED = 4096


class CountDigits(SeededEnv):
    """A stream of digits; the targets are counts of odd digits, threes, sevens and fives over longer and longer windows.

    Generalises the two-network task of Jaderberg et al. 2017, "Decoupled neural interfaces using synthetic gradients",
    section 3.2, to more than two levels.

    Description:
        At every step each environment returns a new image, sampled with replacement from the split. Level 1 counts the odd
        digits in windows of `window` steps, level 2 the threes in windows of `window` squared, level 3 the sevens
        and level 4 the fives. Windows follow one another without a gap; the first ones begin at the reset.
    Action space:
        One action, without effect.
    Observation space:
        `image` [colours, height, width], floats from 0 to 1. `info` has, known after the step, `odd`, `threes`,
        `sevens` and `fives` (one per level), int64: the count over the window that ends with the step,
        with masks `_odd`, …, bool; 0 if no window ends. Known at the tick, it has `odd_so_far`, …: the count
        from the start of the window to the present digit. `count_so_far` is another name of `threes_so_far`.
    Rewards:
        None: 0.0.
    Starting state:
        The first digit of every window.
    Episode end:
        Never.

    Raises:
        DataError: The data are missing or damaged.
    """

    class Options(EnvOptions):
        """Options of the stream of counted digits."""

        data: DigitsName = "digits"
        """Data set: `digits` or `mnist`."""
        levels: int = Field(2, ge=1, le=len(_COUNTED))
        """Number of counts, 1 to 4: of odd digits, threes, sevens and fives."""
        window: int = Field(4, ge=2)
        """Digits in a window of the lowest level, from 2; the longest window is at most 4,096 steps."""
        split: Split = "train"
        """Split used in training: `train`, `validation` or `test`."""

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
            """The highest level's window, in steps."""
            return int(self.window**self.levels)

    @staticmethod
    def describe(options: Options) -> Description:
        """Return signals and splits; reads at most the headers of the data files."""
        source = DATA_SETS[options.data]
        signals = {"image": Signal(shape=(source.colours, source.side, source.side), low=0.0, high=1.0)}
        for name, steps in options.counts:
            signals[name] = Signal(classes=steps + 1, training_only=True, known="after_step", every=steps)
        for name, steps in options.counts:
            signals[f"{name}_so_far"] = Signal(classes=steps + 1, training_only=True)
        if "threes_so_far" in signals:
            signals["count_so_far"] = signals["threes_so_far"]
        counts = source.counts()
        return Description(signals=signals, example_counts=counts, endless=True)

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        self._options = options
        super().__init__(num_envs, self.describe(options), Discrete(1), **settings)
        self.split = options.split
        table = picture_table(self._options.data, self.device)
        self._pixels, self._white = table.columns["image"], table.divisors["image"]
        label = table.columns["label"]
        counted = {"odd": label % 2 == 1, "threes": label == 3, "sevens": label == 7, "fives": label == 5}
        self._counted = {name: counted[name].long() for name, _ in self._options.counts}
        self._draws = Draws(table.splits[self.split], num_envs)
        self._start = 0  # the first digit after the last reset
        self._counts: dict[str, Tensor] = {}
        self._nothing = torch.zeros(num_envs, dtype=torch.int64, device=self.device)

    def request(self, names: Iterable[str]) -> None:
        """Compute only these signals from the next reset on; other counts are not computed."""
        super().request(names)
        requested = {
            "threes" if name == "count_so_far" else name.removesuffix(_SO_FAR) for name in self.requested
        }
        self._computed = [(name, steps) for name, steps in self._options.counts if name in requested]

    @property
    def evaluation_steps(self) -> int:
        """Steps of one evaluation: some windows of the highest level, on digits sampled from the split."""
        return _EVALUATED * self._options.longest

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Begin new windows at the first digit of a seed, or without one at the next digit."""
        self._start = 0 if seed is not None or self._seed is None else self._number + 1
        return super().reset(seed=seed)

    def _known_after(self) -> dict[str, Tensor]:
        """Return the counts of the windows that end with the present digit."""
        closed: dict[str, Tensor] = {}
        for name, steps in self._computed:
            if name in self.requested:
                closes = (self._number - self._start + 1) % steps == 0
                closed[name] = (self._counts[name] if closes else self._nothing).clone()
                closed[f"_{name}"] = self.everywhere(closes)
        return closed

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream, and the `start` of the windows."""
        return {"seed": self._seed, "example": self._number, "start": self._start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a position in the stream, and recompute the counts of its windows."""
        self._seed, self._start = state["seed"], int(state["start"])
        longest = max((steps for _, steps in self._computed), default=1)
        shown = int(state["example"]) - self._start
        for example in range(shown - shown % longest, shown + 1):
            self._number = self._start + example
            if self._seed is not None:
                self._open()

    def _open(self) -> None:
        """Look up the present digits and add them to the counts, which restart at the beginning of a window."""
        assert self._seed is not None
        self._rows = self._draws.rows(self._seed, self._number)
        for name, steps in self._computed:
            counted = self._counted[name].index_select(0, self._rows)
            begins = (self._number - self._start) % steps == 0
            self._counts[name] = counted if begins else self._counts[name] + counted

    def _values(self) -> Values:
        values: dict[str, Tensor] = {}
        for name in self.requested:
            if name == "image":
                pixels = self._pixels.index_select(0, self._rows).to(self.dtype).div_(self._white)
                values[name] = pixels.view(self.num_envs, *self.signals[name].shape)
            elif name == "count_so_far":
                values[name] = self._counts["threes"].clone()
            elif name.endswith(_SO_FAR):
                values[name] = self._counts[name.removesuffix(_SO_FAR)].clone()
        return self._divide(values)
