"""What an agent learns and with what: objectives (losses per sample of its output and a target), and learners: parameters,
running statistics and optimiser.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from antiphon.agents.network import Network, Tensors
from antiphon.nets.layers import binary_cross_entropy, cross_entropy, squared_error
from antiphon.nets.optimisers import StackedParameters, TrainedParameters

__all__ = [
    "OBJECTIVES",
    "ActionValue",
    "Classification",
    "Coding",
    "Learner",
    "Objective",
    "Regression",
    "StackedLearner",
]


class Objective(ABC):
    """Loss per sample, and its metric for reports."""

    metric: str
    """Name of what `score` returns: higher is better for `accuracy`, lower for `error` and `bits`."""
    scores_loss: bool = False
    """Whether the metric is the loss itself."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss per sample, [B], of output [B, size]."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the metric per sample, [B]."""

    @staticmethod
    @abstractmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        """Return the output size that a target of this shape needs, or None where the target does not fit."""


@final
class Classification(Objective):
    """Cross-entropy against an integer target."""

    metric = "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) == target).to(output.dtype)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return classes if shape == () else None


@final
class Regression(Objective):
    """Squared error against a float target, averaged over its components."""

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None if classes is not None else int(torch.Size(shape).numel())


@final
class Coding(Objective):
    """Code length of a target under the output as its model; the metric is in bits.

    An integer target is one symbol: softmax cross-entropy over the classes. A float target of zeros and ones is
    a vector of independent bits: sigmoid cross-entropies, whose sum is the loss (in nats) and whose mean per
    component is the metric (the form of the copy tasks, Graves et al. 2014, "Neural Turing Machines").
    """

    metric = "bits"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            return binary_cross_entropy(output, target)
        return cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        components = output.shape[1] if target.is_floating_point() else 1
        return self.loss(output, target) / (components * math.log(2))

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        if classes is not None:
            return classes if shape == () else None
        return int(torch.Size(shape).numel()) if len(shape) < 2 else None


@final
class ActionValue(Objective):
    """Squared error of an acting agent's estimate of one number, such as the reward, for the action that it takes.

    It has an output per discrete action; the largest is the action taken, and the only one with a target.
    """

    metric = "error"
    scores_loss = True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return squared_error(output.max(1, keepdim=True).values, target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return self.loss(output, target)

    @staticmethod
    def size(shape: tuple[int, ...], classes: int | None) -> int | None:
        return None  # as many as there are actions


OBJECTIVES: dict[str, type[Objective]] = {
    "classification": Classification,
    "regression": Regression,
    "coding": Coding,
}


class Learner(TrainedParameters):
    """Parameters, running statistics and optimiser of one network. Tied agents share one learner.

    Args:
        network: The network.
        generator: Samples the initial parameters.
        settings: The other arguments of `TrainedParameters`.
    """

    def __init__(self, network: Network, generator: torch.Generator, **settings: Any) -> None:
        self.network = network
        super().__init__(network.parameters(generator), network.buffers(), **settings)

    def counts(self) -> list[int]:
        """Return the optimiser steps taken, as a list of one."""
        return [self.updates]


class StackedLearner(StackedParameters):
    """The learners of N agents of one kind, stacked; interface of one.

    Its network maps rows (member, environment), [N * B, …].

    Args:
        learners: Of the agents.
        batch: B.
    """

    def __init__(self, learners: Sequence[Learner], batch: int) -> None:
        super().__init__(learners)
        self.network = _RowNetwork(learners[0].network, len(learners), batch)

    def counts(self) -> list[int]:
        """Return the optimiser steps that each agent has taken."""
        return [learner.updates + n for learner, n in zip(self.members, self.taken.tolist(), strict=True)]


class _RowNetwork:
    """A network evaluated with stacked parameters on rows, [N * B, …]."""

    pure = True

    def __init__(self, network: Network, count: int, batch: int) -> None:
        self.network = network
        self.count, self.batch = count, batch
        self.input_shape, self.heads = network.input_shape, network.heads
        self.state_size = network.state_size

    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        seed: int = 0,
        transports: Sequence[Any] = (),
        state: Tensor | None = None,
    ) -> tuple[Tensors, Tensors]:
        del seed, transports  # of single agents only
        rows = x.view(self.count, self.batch, *x.shape[1:])
        before = None if state is None else state.view(self.count, self.batch, -1)
        ports, after = self.network(parameters, buffers, rows, training=training, state=before)
        return {name: port.flatten(0, 1) for name, port in ports.items()}, after
