"""Normalised observations: the running statistics of what agents and critics observe (rule 45)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from antiphon.agents.observation_statistics import OF_CRITICS, OF_NETWORKS, merged
from antiphon.base.mask import NONE
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.window import Tick


def rows_of_all(agent: Agent, values: Tensor) -> Tensor:
    """Return an observation that members may share, [B, …], as rows of all, [N * B, …]."""
    return agent.layout.to_rows(values) if values.shape[0] < len(agent.members) * agent.batch else values


@torch.no_grad()
def count_observations(
    agent: Agent, tick: Tick, signal_named: Callable[[str], Tensor], dtype: torch.dtype
) -> None:
    """Add what an agent observes at a tick to its statistics, where the environment shows it and the agent lives.

    Args:
        signal_named: See `Agent.observation_rows`.
    """
    inputs, layout, members, signals = agent.inputs, agent.layout, len(agent.members), tick.observed_signals
    for kind, observed in ((OF_NETWORKS, inputs.observed), (OF_CRITICS, inputs.critic_observed)):
        for index in observed.normalised_indices:
            if agent.learner.frozen or not signals.signals:
                continue
            name, names = f"{kind}.{index}", observed.names_by_member[index]
            absent = {name: ~signals.present(name) for name in dict.fromkeys(names)}
            dead = {life: signals.not_alive(life) for life in dict.fromkeys(agent.life_names)}
            missing = layout.select_mask_by_name(absent, names)
            missing |= layout.select_mask_by_name(dead, agent.life_names)
            rows = rows_of_all(agent, agent.observation_rows(names, signal_named, dtype))
            before = agent.learner.buffers[name]
            after = merged(
                before.view(members, -1),
                rows.reshape(members, agent.batch, -1),
                None if missing is NONE else missing.tensor(len(rows), layout.device).view(members, -1),
            )
            agent.learner.put_statistics({name: after.view_as(before)})
