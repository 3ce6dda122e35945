"""Learners: parameters, running statistics and optimiser of a network, of one agent or stacked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.network import Network, Tensors
from antiphon.nets.trained_parameters import StackedParameters, TrainedParameters

__all__ = ["Learner", "StackedLearner"]


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
    """

    def __init__(self, learners: Sequence[Learner]) -> None:
        super().__init__(learners)
        self.network = _RowNetwork(learners[0].network, len(learners))

    def counts(self) -> list[int]:
        """Return the optimiser steps that each agent has taken."""
        return [learner.updates + n for learner, n in zip(self.members, self.taken.tolist(), strict=True)]


class _RowNetwork:
    """A network evaluated with stacked parameters on rows, [N * B, …], of any B."""

    pure = True

    def __init__(self, network: Network, count: int) -> None:
        self.network = network
        self.count = count
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
        rows = x.view(self.count, len(x) // self.count, *x.shape[1:])
        before = None if state is None else state.view(self.count, len(x) // self.count, -1)
        ports, after = self.network(parameters, buffers, rows, training=training, state=before)
        return {name: port.flatten(0, 1) for name, port in ports.items()}, after
