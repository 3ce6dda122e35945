"""Learners: parameters, running statistics and optimiser of a network, of one agent or stacked; with those of its critic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from antiphon.agents.network import VALUE, Network, Tensors, sub, with_prefix
from antiphon.nets import random
from antiphon.nets.trained_parameters import TrainedParameters

__all__ = ["CRITIC", "Learner", "RowNetwork"]

CRITIC = "critic"
"""What the names of a critic's parameters and running statistics begin with."""


class Learner(TrainedParameters):
    """Parameters, running statistics and optimiser of one network, and of its critic; or those of N agents of one kind, stacked.

    The network of a stack maps rows (member, environment), [N * B, …]. Tied agents share one learner.

    Args:
        network: The network.
        generator: Samples the initial parameters.
        critic: A second network that estimates values in training, whose only head is `VALUE`; those of the first do not
            depend on it.
        settings: The other arguments of `TrainedParameters`.
    """

    network: Network
    critic: Any

    def __init__(
        self, network: Network, generator: torch.Generator, critic: Network | None = None, **settings: Any
    ) -> None:
        self.network, self.critic = network, critic
        parameters, buffers = network.parameters(generator), network.buffers()
        if critic is not None:
            own = random.generator(generator.initial_seed(), CRITIC)
            parameters |= with_prefix(CRITIC, critic.parameters(own))
            buffers |= with_prefix(CRITIC, critic.buffers())
        super().__init__(parameters, buffers, **settings)

    @classmethod
    def stacked(cls, members: Sequence[Self]) -> Self:
        found = super().stacked(members)
        found.network = RowNetwork(found.network, len(members))  # type: ignore[assignment]
        found.critic = None if found.critic is None else RowNetwork(found.critic, len(members))
        return found

    def values(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, *, training: bool
    ) -> tuple[Tensor, Tensors]:
        """Return the critic's value [rows, 1] of what it observes, [rows, …], and its new running statistics.

        Args:
            parameters: All of the learner's.
            buffers: Likewise.
            x: What the critic observes.
            training: Whether batch statistics are used and updated.
        """
        ports, after = self.critic(sub(parameters, CRITIC), sub(buffers, CRITIC), x, training=training)
        return ports[VALUE], with_prefix(CRITIC, after)


class RowNetwork:
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
