"""Distributions of actions: sampled from uniform numbers that are given, with log-probabilities and entropies.

Their parameters are the outputs of a network. Samples are functions of the uniform numbers: nothing here uses a random
generator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from antiphon.agents.network import NEVER
from antiphon.base.errors import ScenarioError
from antiphon.comms.backward_requests import constant
from antiphon.nets.per_member import PerMember, to_rows

LOG_DEVIATION = (-2.5, 2.0)
"""Smallest and largest logarithm of a Gaussian's standard deviation; outputs beyond are clamped.

With deviations of less than 4 % of a Box's range, an update of the usual size moves the mean by many deviations, and a policy that
has become certain too early stays where it is.
"""
LEAST_UNBOUNDED = -5.0
"""The smallest one where a number lacks a bound: its range, and with it the size of a deviation, is not known."""

UNBOUNDED = 1e10
"""Size from which a bound of a Box stands for none, such as the largest float32."""


@dataclass(frozen=True)
class Categorical:
    """One of `n` choices, with a logit each; actions are [rows] int64."""

    n: int

    @property
    def parameters(self) -> int:
        return self.n

    draws: ClassVar[int] = 1
    """Uniform numbers of a sample: the distribution function is inverted."""

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """Return the first choice at which the distribution function exceeds the uniform number, [rows]."""
        sums = constant(outputs).softmax(-1, dtype=torch.float64).cumsum(-1)
        # rounding may leave the last value below 1: then the last choice with a probability, which a mask leaves some
        return ((sums <= uniforms) & (sums < sums.narrow(-1, -1, 1))).sum(-1)

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the largest logit's index, [rows]."""
        return outputs.argmax(-1)

    def log_prob_and_entropy(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the probability of each row's action, and the entropy in nats, [rows] each."""
        logs = outputs.log_softmax(-1)
        return logs.gather(-1, action.unsqueeze(-1)).squeeze(-1), -(logs.exp() * logs).sum(-1)


def legal(outputs: Tensor) -> Tensor:
    """Where choices are legal, bool: those of `Masked` that are not have a value that no other has."""
    return outputs > NEVER / 2


@dataclass(frozen=True, eq=False)
class EpsilonGreedy(Categorical):
    """The choice of the largest value, or with a probability any legal one; outputs [rows, n] are values."""

    epsilon: PerMember
    """Probability of a choice at random, the best one included."""

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        outputs = constant(outputs)
        # where none is legal, all choices are alike
        may = (legal(outputs) | ~legal(outputs).any(-1, keepdim=True)).double()
        best = torch.zeros_like(may).scatter(-1, self.mode(outputs).unsqueeze(-1), 1.0)
        epsilon = to_rows(self.epsilon, may)
        chances = epsilon * may / may.sum(-1, keepdim=True) + (1 - epsilon) * best
        return super().sample(chances.log(), uniforms)


@dataclass(frozen=True)
class MultiCategorical:
    """Several independent choices among `ns` options each, with their logits side by side; actions are [rows, k] int64."""

    ns: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return sum(self.ns)

    @property
    def draws(self) -> int:
        return len(self.ns)

    def _parts(self, outputs: Tensor) -> Iterable[tuple[Categorical, Tensor]]:
        return zip(map(Categorical, self.ns), torch.split(outputs, list(self.ns), -1), strict=True)

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        parts = zip(self._parts(outputs), torch.split(uniforms, 1, -1), strict=True)
        return torch.stack([choice.sample(logits, own) for (choice, logits), own in parts], -1)

    def mode(self, outputs: Tensor) -> Tensor:
        return torch.stack([choice.mode(logits) for choice, logits in self._parts(outputs)], -1)

    def log_prob_and_entropy(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(self._parts(outputs), action.unbind(-1), strict=True)
        terms = [choice.log_prob_and_entropy(logits, own) for (choice, logits), own in parts]
        log_prob, entropy = (torch.stack(term).sum(0) for term in zip(*terms, strict=True))
        return log_prob, entropy


@dataclass(frozen=True)
class Gaussian:
    """`size` independent normal numbers; outputs are means, then logarithms of deviations; actions [rows, size].

    Attributes:
        size: The count of numbers.
        bounded: Whether a deviation of 1 is half of each number's range, and not in units that are not known.
    """

    size: int
    bounded: bool = True

    @property
    def parameters(self) -> int:
        return 2 * self.size

    @property
    def draws(self) -> int:
        return self.size

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = torch.split(outputs, self.size, -1)
        least, most = LOG_DEVIATION
        return mean, log_deviation.clamp(least if self.bounded else LEAST_UNBOUNDED, most)

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        noise: Tensor = torch.special.ndtri(uniforms.clamp(min=2.0**-54))  # at 0 it is infinite
        mean, log_deviation = self._split(constant(outputs))
        return mean + log_deviation.exp() * noise.to(mean.dtype)

    def mode(self, outputs: Tensor) -> Tensor:
        return self._split(outputs)[0]

    def log_prob_and_entropy(self, outputs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = self._split(outputs)
        scaled = (action - mean) * (-log_deviation).exp()
        log_prob = -(scaled.square() / 2 + log_deviation + math.log(2 * math.pi) / 2).sum(-1)
        return log_prob, (log_deviation + math.log(2 * math.pi * math.e) / 2).sum(-1)


Distribution = Categorical | MultiCategorical | Gaussian
"""A family of distributions over actions. Outputs may have more axes before the last one than `rows`."""


def _bounded(space: spaces.Box) -> NDArray[np.bool_]:
    """Return whether each number of a Box has two bounds, [*shape]."""
    sizes = (np.abs(np.asarray(bound, np.float64)) for bound in (space.low, space.high))
    return np.maximum(*sizes) < UNBOUNDED


@dataclass(frozen=True, eq=False, slots=True)
class BoxUnits:
    """Affine map from the samples of a `Gaussian` to the numbers of a Box: a bounded number's range is -1 to 1 of the sample."""

    centre: Tensor
    """[*shape] float64: the middle of each number's range; 0 where a bound is missing."""
    half: Tensor
    """[*shape] float64: half of each number's range; 1 where a bound is missing."""

    @classmethod
    def of(cls, space: gymnasium.Space[Any]) -> Self | None:
        """Return the map of a space; None: it is no Box, or its samples are its numbers."""
        if not isinstance(space, spaces.Box):
            return None
        low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
        bounded = _bounded(space)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        centre, half = (low + high) / 2, (high - low) / 2
        if not centre.any() and (half == 1).all():
            return None
        return cls(torch.as_tensor(centre), torch.as_tensor(half))

    def __call__(self, sample: Tensor) -> Tensor:
        """Return samples [rows, numbers] in the units of the Box, [rows, *shape]."""
        centre, half = self.centre.to(sample), self.half.to(sample)
        return centre + half * sample.reshape(-1, *half.shape)


def distribution_of(space: gymnasium.Space[Any]) -> Distribution:
    """Return the distribution over a space's actions."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(int(n) for n in space.nvec.flatten()))
    if isinstance(space, spaces.MultiBinary):
        return MultiCategorical((2,) * int(torch.Size(space.shape).numel()))
    if isinstance(space, spaces.Box) and space.dtype.kind in "fiu" and space.shape.count(0) == 0:
        return Gaussian(torch.Size(space.shape).numel(), bounded=bool(_bounded(space).all()))
    raise ScenarioError(
        f"no policy acts in {space}; use Discrete, MultiDiscrete, MultiBinary or a Box of numbers, or name a part of a Dict"
    )
