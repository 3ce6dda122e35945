"""Running statistics of observations that enter networks normalised: when they begin and what is added to them (rule 45)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from antiphon.base.mask import NONE
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.window import LearningGroup, Tick, Window
from tests.reference.state import State


def begin_statistics(state: State, tick: Tick, window: Window) -> None:
    """Guess statistics from an agent's first tick: its mean, and its second moment as variance, until a window has ended."""
    agent = state.agents[tick.agent_name]
    start = window.statistics_before[state.system.learner_name_by_agent[tick.agent_name]]
    for name, x in _observed(state, agent, tick):
        if not len(x):
            continue
        own, square = agent.learner.buffers[name], (x**2).mean(0)
        unknown = ~square.to(own.dtype).isfinite()
        mean, square = x.mean(0).masked_fill(unknown, 0.0), square.masked_fill(unknown | (square == 0), 1.0)
        guess = torch.cat([square.new_full((1,), 1e-3), mean, square])
        if own[0] == 0:
            own = guess.to(own.dtype)
            agent.learner.buffers = agent.learner.buffers | {name: own}
        if start[name][0] == 0:
            start[name] = own


def update_statistics(state: State, group: LearningGroup, window: Window) -> None:
    """Add all that agents observed in a window that they may learn from, unless they are frozen."""
    for name in group.agent_names:
        agent = state.agents[name]
        if agent.learner.frozen:
            continue
        seen: dict[str, list[Tensor]] = {}
        for tick in (tick for tick in window.ticks() if tick.agent_name == name):
            for key, x in _observed(state, agent, tick) if tick.learning_rows is not NONE else ():
                seen.setdefault(key, []).append(x)
        for key, parts in seen.items():
            own, x = agent.learner.buffers[key], torch.cat(parts)
            if not len(x):
                continue
            count, mean, variance = torch.split(own.double(), [1, x.shape[1], x.shape[1]])
            count = count if count >= 1 else torch.zeros_like(count)  # a guess has no weight
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
    alive = signals.get(f"alive.{agent.body.life_name}")
    for key, signal in named if all(signal in signals for _, signal in named) else ():
        x, mask = signals[signal].to(state.system.dtype).double().flatten(1), signals.get(f"_{signal}")
        there = ~state.nowhere if mask is None else mask.flatten(1).any(1) if mask.dim() > 1 else mask
        yield key, x[there if alive is None else there & (alive > 0)]
