"""Normalised observations: the running statistics of what agents and critics observe, and their use (rule 45)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Self

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.agents.observation_statistics import OF_CRITICS, OF_NETWORKS, merged, normalised
from antiphon.base.mask import NONE
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import Tick

Normalised = Callable[[int, Tensor], Tensor]
"""From an observation's index and value to its normalised value."""


class Normalisation:
    """The normalised observations of a system's agents.

    Args:
        signal_of: Returns a function from a signal's name to its value at a tick (`ForwardPass.signal_of`).
    """

    def __init__(self, system: System, signal_of: Callable[[Tick], Callable[[str], Tensor]]) -> None:
        self.system, self.signal_of = system, signal_of

    @classmethod
    def of(cls, system: System, signal_of: Callable[[Tick], Callable[[str], Tensor]]) -> Self | None:
        """Return those of a system; None: none is normalised."""
        needed = any(True for agent in system.agents.values() for _ in _observations(agent))
        return cls(system, signal_of) if needed else None

    def at(self, agent: Agent, tick: Tick, statistics: Tensors, *, of_critic: bool) -> Normalised | None:
        """Return what normalises the observations of an agent, or of its critic, at a tick; None: none is normalised.

        The zeros that an aligned agent observes before its first message stay zeros.
        """
        inputs = agent.inputs
        kind, observed = (OF_CRITICS, inputs.critic_observed) if of_critic else (OF_NETWORKS, inputs.observed)
        if not observed.normalised_indices or not tick.observed_signals.signals:
            return None
        return partial(self._normalised, agent, statistics, kind, observed.normalised_indices)

    def _normalised(
        self,
        agent: Agent,
        statistics: Tensors,
        kind: str,
        indices: tuple[int, ...],
        index: int,
        values: Tensor,
    ) -> Tensor:
        """An observation, [rows, …], or one that all members share, [B, …]."""
        if index not in indices:
            return values
        member_statistics = statistics[f"{kind}.{index}"].view(len(agent.members), -1)
        return normalised(_rows(agent, values), member_statistics)

    @torch.no_grad()
    def count(self, tick: Tick) -> None:
        """Add what an agent observes at a tick to its statistics, where the environment shows it and the agent lives."""
        agent, signals = self.system.agents[tick.agent_name], tick.observed_signals
        if agent.learner.frozen or not signals.signals:
            return
        layout, members = agent.layout, len(agent.members)
        for name, names in _observations(agent):
            dead = {life: signals.not_alive(life) for life in dict.fromkeys(agent.life_names)}
            absent = {name: ~signals.present(name) for name in dict.fromkeys(names)}
            missing = layout.select_mask_by_name(absent, names) | layout.select_mask_by_name(
                dead, agent.life_names
            )
            rows = _rows(agent, agent.observation_rows(names, self.signal_of(tick), self.system.dtype))
            before = agent.learner.buffers[name]
            after = merged(
                before.view(members, -1),
                rows.reshape(members, agent.batch, -1),
                None if missing is NONE else missing.tensor(len(rows), layout.device).view(members, -1),
            )
            agent.learner.put_statistics({name: after.view_as(before)})


def _rows(agent: Agent, values: Tensor) -> Tensor:
    """Rows of all members, where they share one observation."""
    return agent.layout.to_rows(values) if values.shape[0] < len(agent.members) * agent.batch else values


def _observations(agent: Agent) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the names of an agent's statistics, each with the signal of each member."""
    inputs = agent.inputs
    for kind, observed in ((OF_NETWORKS, inputs.observed), (OF_CRITICS, inputs.critic_observed)):
        for index in observed.normalised_indices:
            yield f"{kind}.{index}", observed.names_by_member[index]
