"""Running statistics of observations that enter networks normalised: what is added to them (rule 45)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.window import Tick
from tests.reference.state import State


def count_observations(state: State, tick: Tick) -> None:
    """Add what an agent observes at a tick to its statistics, unless it is frozen."""
    agent = state.agents[tick.agent_name]
    for key, x in _observed(state, agent, tick):
        if agent.learner.frozen or not len(x):
            continue
        own = agent.learner.buffers[key]
        count, mean, variance = torch.split(own.double(), [1, x.shape[1], x.shape[1]])
        total = count + len(x)
        sums, squares = count * mean + x.sum(0), count * variance + ((x - x.mean(0)) ** 2).sum(0)
        between = (x.mean(0) - mean) ** 2 * count * len(x) / total
        after = torch.cat([total, sums / total, (squares + between) / total]).to(own.dtype)
        if after.isfinite().all():  # rule 32
            agent.learner.buffers = agent.learner.buffers | {key: after}


def _observed(state: State, agent: Agent, tick: Tick) -> Iterator[tuple[str, Tensor]]:
    """Yield what is normalised of a tick, [rows, components] float64, with the name of its statistics; nothing unless all is there.

    Rows are those in which the environment shows it and the agent lives.
    """
    own, seen, signals = agent.inputs.observed, agent.inputs.critic_observed, tick.observed_signals.signals
    named = [(f"observes.{place}", own.signal_names[place]) for place in own.normalised_indices]
    if seen.signal_names:
        named += [(f"critic_observes.{place}", seen.signal_names[place]) for place in seen.normalised_indices]
    alive = signals.get(f"alive.{agent.life_name}")
    for key, signal in named if all(signal in signals for _, signal in named) else ():
        x, mask = signals[signal].to(state.system.dtype).double().flatten(1), signals.get(f"_{signal}")
        there = ~state.nowhere if mask is None else mask.flatten(1).any(1) if mask.dim() > 1 else mask
        yield key, x[there if alive is None else there & (alive > 0)]
