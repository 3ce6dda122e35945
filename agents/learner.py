"""Learners: parameters, running statistics and optimiser of a network and its critic, for one agent or stacked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.advantages import RETURNS
from antiphon.agents.network import OBJECTIVE, VALUE, CallSettings, Network, Tensors, sub, with_prefix
from antiphon.comms.backward_requests import constant
from antiphon.nets import random
from antiphon.nets.trained_parameters import TrainedParameters

TARGET = "target"
"""Prefix of the names of a target network's parameters, which follow the network's own, among the running statistics."""
CRITIC = "critic"


class Learner(TrainedParameters):
    """Parameters, running statistics and optimiser of a network and its critic; or of N agents of one kind, stacked.

    Tied agents share one learner.

    Args:
        critic: A second network that estimates values in training, with the single head `VALUE`; the first network's
            parameters do not depend on it.
        returns: Whether running statistics of a policy's returns are kept too.
        statistics: Running statistics of observations that are normalised, by name; None: there are none.
    """

    def __init__(
        self,
        network: Network,
        generator: torch.Generator,
        critic: Network | None = None,
        *,
        returns: bool = False,
        has_target_network: bool = False,
        statistics: Tensors | None = None,
        **settings: Any,
    ) -> None:
        self.network = network
        self.critic: Any = critic
        parameters, buffers = network.parameters(generator), network.buffers()
        if critic is not None:
            critic_generator = random.generator(generator.initial_seed(), CRITIC)
            parameters |= with_prefix(CRITIC, critic.parameters(critic_generator))
            buffers |= with_prefix(CRITIC, critic.buffers())
        if returns:
            buffers |= {RETURNS: torch.zeros(3)}
        if has_target_network:
            buffers |= with_prefix(TARGET, {name: constant(p).clone() for name, p in parameters.items()})
        buffers |= statistics or {}
        super().__init__(
            parameters,
            buffers,
            user_prefixes=network.user_prefixes,
            seed=generator.initial_seed(),
            **settings,
        )

    def evaluate(
        self,
        buffers: Tensors,
        x: Tensor,
        *,
        seed: int = 0,
        state: Tensor | None = None,
        without: Collection[str] = (),
    ) -> tuple[Tensors, Tensors]:
        """Return the network's ports, [rows, *size] each, and its new running statistics; for the arguments see `Network.on_rows`."""
        settings: CallSettings = {
            "training": not self.frozen,
            "seed": seed,
            "state": state,
            "without": without,
        }
        members = len(self.members)
        return self.evaluated(self.network.on_rows, self.parameters, buffers, x, members, **settings)

    def from_hidden(self, buffers: Tensors, hidden: Tensor, heads: Collection[str]) -> Tensors:
        """Return some linear heads, [rows, *size] each, of the last hidden activation, [rows, …]."""
        members, evaluate = len(self.members), self.network.from_hidden
        rows = hidden.view(members, -1, *hidden.shape[1:]) if members else hidden
        ports = self.evaluated(evaluate, self.parameters, buffers, rows, heads, training=not self.frozen)
        return {name: port.flatten(0, 1) if members else port for name, port in ports.items()}

    def values(self, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        """Return the critic's value [rows, 1] of its observation `x`, [rows, …], and its new running statistics."""
        own = sub(self.parameters, CRITIC), sub(buffers, CRITIC), x, len(self.members)
        ports, after = self.evaluated(self.critic.on_rows, *own, training=not self.frozen)
        return ports[VALUE], with_prefix(CRITIC, after)

    @torch.no_grad()
    def target_outputs(self, buffers: Tensors, x: Tensor, state: Tensor | None) -> Tensor:
        """Return the outputs of the target network, [rows, size], evaluated as after training."""
        own = sub(buffers, TARGET), buffers, x, len(self.members)
        ports, _ = self.evaluated(self.network.on_rows, *own, training=False, state=state)
        return ports[OBJECTIVE]

    @torch.no_grad()
    def update_target(self, period: int, steps_taken: int) -> None:
        """Copy the parameters into the target network, of members whose last `steps_taken` optimiser steps include a multiple of `period`."""
        due = torch.tensor([count % period < steps_taken for count in self.counts()])
        if not due.any():
            return
        before, copies = sub(self.buffers, TARGET), {}
        for name, p in self.parameters.items():
            # a parameter of one alone may have no axis
            shape = [-1, *[1] * (p.dim() - 1)] if self.members else []
            copies[name] = torch.where(due.to(p.device).view(shape), p, before[name])
        self.put_statistics(with_prefix(TARGET, copies))
