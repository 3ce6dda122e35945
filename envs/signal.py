"""Signals of an environment, and the description of all of them. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import field
from functools import cached_property
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One named tensor `[batch, *shape]` of an environment at every step."""

    shape: tuple[int, ...] = ()
    """Shape per environment; `()` is one number."""
    classes: PositiveInt | None = None
    """Number of values of a categorical signal (int64, 0 … classes - 1); None: a float."""
    training_only: bool = False
    """True: only for losses and gradient context, in `info`; False: an observation."""
    known: Literal["tick", "after_step"] = "tick"
    """`tick`: returned with the observation of its step; `after_step`: known after the step has been taken."""
    every: PositiveInt = 1
    """Steps between two values: the first is at step `every` - 1; its mask leaves out the other steps."""
    low: float = -math.inf
    """Smallest value of a float."""
    high: float = math.inf
    """Largest value of a float."""
    channels: Literal["first", "last", "unknown", ""] = ""
    """Axis of the channels of an image, which has three axes; empty: `first`."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the network input: a categorical signal is one-hot, `(classes, *shape)`."""
        return self.shape if self.classes is None else (self.classes, *self.shape)

    def shape_as(self, categories: str) -> tuple[int, ...]:
        """Shape of the network input: `input_shape` (`one_hot`), or the shape of its values (`index`)."""
        return self.shape if categories == "index" else self.input_shape

    def space(self, dtype: Any = np.float32) -> gymnasium.Space[Any]:
        """Return the Gymnasium space of one environment's value; `dtype` is the numpy type of floats."""
        if self.classes is None:
            return Box(self.low, self.high, self.shape, dtype)
        if self.shape == ():
            return Discrete(self.classes)
        return MultiDiscrete(np.full(self.shape, self.classes))


def channel_axis(shape: tuple[int, ...]) -> Literal["first", "last", "unknown"]:
    """Return the axis of the channels of an image `[…, …, …]` by its sizes, or that they leave it open.

    Height and width are usually equal, or there are at most four channels.
    """
    first, middle, last = shape
    if first == middle != last or middle == last != first:
        return "last" if first == middle else "first"
    if min(first, last) > 4 or first == last:  # 4: colours and transparency
        return "unknown"
    return "last" if last < first else "first"


OUTCOMES = {
    "reward": Signal(training_only=True, known="after_step"),
    "terminated": Signal(training_only=True, known="after_step", low=0.0, high=1.0),
    "truncated": Signal(training_only=True, known="after_step", low=0.0, high=1.0),
}
"""Outcomes of a step, which every environment has even if they are not listed: the reward, and 1 where an episode terminated
or was truncated. Where a mask `_reward` is False, the step was no experience."""
ENDS = ("terminated", "truncated")
"""The signals of the ends of the environment's episodes; of a single agent's life `terminated.NAME` and `truncated.NAME`."""
ALIVE = "alive"
"""Of an environment whose agents may die, return or come late: `alive.NAME` is 1 where an agent lives at the tick, else 0."""
ID = "id"
"""Of an environment with several agents: `id.NAME` is the agent's number among them, by which agents with one set of parameters
differ."""
TURN = "turn"
"""Of an environment whose agents take turns: `turn.NAME` is 1 where the agent moves at the tick, else 0."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(arbitrary_types_allowed=True))
class Description:
    """Description of an environment, available before it is constructed."""

    signals: dict[str, Signal]
    """All signals by name, except `OUTCOMES` with their default form."""
    hold: int = 1
    """Number of steps for which each example is repeated."""
    episode_steps: int | None = None
    """Length of every episode, the same in all environments; None: endless, varying or unknown."""
    longest_episode: int | None = None
    """Longest episode in steps, if lengths vary: each length is known at the episode's reset and the same in all environments."""
    pads: bool = False
    """Whether there is padding: sequences side by side may have different lengths."""
    at_ends: tuple[str, ...] = ()
    """Targets with one value per sequence, at its last step."""
    sequence_steps: int = 1
    """Of sequences of data: the largest number of steps of which all their lengths are multiples."""
    endless: bool = False
    """True: no episode ever ends."""
    example_counts: dict[str, int] = field(default_factory=dict)
    """Number of examples of each split, such as train, validation and test; splits share no examples."""
    is_stream: bool = False
    """True: a stream of independent examples, on which actions have no effect."""
    sampling: Literal["epochs", "with_replacement"] = "epochs"
    """Sampling in training, for a stream of examples."""
    action_space: gymnasium.Space[Any] | None = None
    """Action space of one environment, if outputs of agents must fit it; None: any output is an action."""
    can_be_saved: bool = True
    """False: the environment's state cannot be saved, so that its runs cannot be resumed."""

    @cached_property
    def all_signals(self) -> dict[str, Signal]:
        """All signals by name: the listed ones and the outcomes of a step."""
        return {**self.signals, **{name: OUTCOMES[name] for name in OUTCOMES if name not in self.signals}}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.example_counts)

    @property
    def observations(self) -> tuple[str, ...]:
        """Names of the signals that are available to deployed agents."""
        return tuple(name for name, signal in self.signals.items() if not signal.training_only)
