"""Distributions of actions: sampled from uniform numbers that are given, with log-probabilities and entropies.

Their parameters are the outputs of a network. Samples are functions of the uniform numbers: nothing here uses a random
generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.errors import ScenarioError

__all__ = ["Categorical", "Distribution", "Gaussian", "MultiCategorical", "distribution_of"]

LOG_DEVIATION = (-5.0, 2.0)
"""Smallest and largest logarithm of a Gaussian's standard deviation; outputs beyond are clamped."""


class Distribution(Protocol):
    """A family of distributions over actions. Outputs may have more axes before the last one than `rows`."""

    @property
    def parameters(self) -> int:
        """Number of network outputs per row."""

    @property
    def draws(self) -> int:
        """Number of uniform numbers per row that a sample needs."""

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """Return an action per row.

        Args:
            outputs: [rows, parameters].
            uniforms: [rows, draws] float64 in [0, 1).
        """

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the most likely action per row of outputs [rows, parameters]."""

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the logarithm of the probability, or density, of each row's action, [rows]."""

    def entropy(self, outputs: Tensor) -> Tensor:
        """Return the entropy of each row's distribution in nats, [rows]."""


@dataclass(frozen=True)
class Categorical:
    """One of `n` choices, with a logit each; actions are [rows] int64."""

    n: int

    @property
    def parameters(self) -> int:
        """Number of logits."""
        return self.n

    @property
    def draws(self) -> int:
        """One: the distribution function is inverted."""
        return 1

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """Return the first choice at which the distribution function exceeds the uniform number, [rows]."""
        below = constant(outputs).double().softmax(-1).cumsum(-1) <= uniforms
        return below.sum(-1).clamp(max=self.n - 1)  # rounding may leave the last value below 1

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the largest logit's index, [rows]."""
        return outputs.argmax(-1)

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the logarithm of the probability of each row's action, [rows]."""
        return outputs.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Return the entropy, [rows]."""
        logs = outputs.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)


@dataclass(frozen=True)
class MultiCategorical:
    """Several independent choices among `ns` options each, with their logits side by side; actions are [rows, k] int64."""

    ns: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """Number of logits of all choices."""
        return sum(self.ns)

    @property
    def draws(self) -> int:
        """One per choice."""
        return len(self.ns)

    def _split(self, outputs: Tensor) -> list[tuple[Categorical, Tensor]]:
        return [
            (Categorical(n), part)
            for n, part in zip(self.ns, torch.split(outputs, list(self.ns), -1), strict=True)
        ]

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """Return each choice, sampled from its own uniform number, [rows, k]."""
        parts = enumerate(self._split(outputs))
        return torch.stack([each.sample(part, uniforms[..., i : i + 1]) for i, (each, part) in parts], -1)

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the largest logit's index of each choice, [rows, k]."""
        return torch.stack([each.mode(part) for each, part in self._split(outputs)], -1)

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the sum of the choices' log-probabilities, [rows]."""
        parts = enumerate(self._split(outputs))
        return torch.stack([each.log_prob(part, action[..., i]) for i, (each, part) in parts]).sum(0)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Return the sum of the choices' entropies, [rows]."""
        return torch.stack([each.entropy(part) for each, part in self._split(outputs)]).sum(0)


@dataclass(frozen=True)
class Gaussian:
    """`size` independent normal numbers; outputs are means, then logarithms of deviations; actions [rows, size]."""

    size: int

    @property
    def parameters(self) -> int:
        """Two per component: a mean and the logarithm of a deviation."""
        return 2 * self.size

    @property
    def draws(self) -> int:
        """One per component."""
        return self.size

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_deviation = torch.split(outputs, self.size, -1)
        return mean, log_deviation.clamp(*LOG_DEVIATION)

    def sample(self, outputs: Tensor, uniforms: Tensor) -> Tensor:
        """Return means plus deviations times normal numbers, unbounded, [rows, size]."""
        noise: Tensor = torch.special.ndtri(uniforms.clamp(min=2.0**-54))  # at 0 it is infinite
        return self.with_noise(outputs, noise)

    def with_noise(self, outputs: Tensor, noise: Tensor) -> Tensor:
        """Return means plus deviations times the normal numbers `noise`, [rows, size]."""
        mean, log_deviation = self._split(constant(outputs))
        return mean + log_deviation.exp() * noise.to(mean.dtype)

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the means, [rows, size]."""
        return self._split(outputs)[0]

    def log_prob(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Return the logarithm of the density at each row's action, [rows]."""
        mean, log_deviation = self._split(outputs)
        scaled = (action - mean) * (-log_deviation).exp()
        return -(scaled.square() / 2 + log_deviation + math.log(2 * math.pi) / 2).sum(-1)

    def entropy(self, outputs: Tensor) -> Tensor:
        """Return the differential entropy, [rows]."""
        return (self._split(outputs)[1] + math.log(2 * math.pi * math.e) / 2).sum(-1)


def distribution_of(space: gymnasium.Space[Any]) -> Distribution:
    """Return the distribution over a space's actions.

    Args:
        space: Action space of one environment: `Discrete`, `MultiDiscrete`, `MultiBinary` or `Box` of floats.

    Raises:
        ScenarioError: No policy acts in such a space.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(int(n) for n in space.nvec.flatten()))
    if isinstance(space, spaces.MultiBinary):
        return MultiCategorical((2,) * int(torch.Size(space.shape).numel()))
    if isinstance(space, spaces.Box) and space.dtype.kind == "f" and space.shape.count(0) == 0:
        return Gaussian(torch.Size(space.shape).numel())
    raise ScenarioError(
        f"no policy acts in {space}; use Discrete, MultiDiscrete, MultiBinary or Box of floats, or name a part of a Dict"
    )
