"""Normalised observations: the running statistics of what agents and critics observe, and their use (rule 45)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Self

import torch
from torch import Tensor

from antiphon.agents.network import Tensors
from antiphon.agents.observation_statistics import (
    OF_CRITICS,
    OF_NETWORKS,
    first_statistics,
    merged,
    normalised,
)
from antiphon.base.mask import NONE, Mask
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import Update
from antiphon.engine.heart.window import Tick, Window

Normalised = Callable[[int, Tensor], Tensor]
"""From an observation's index and value to its normalised value."""
Observation = tuple[str, tuple[str, ...]]
"""The name of its statistics, and the signal of each member."""


class Normalisation:
    """The normalised observations of a system's agents, and the running statistics by which they observe.

    Args:
        signal_of: Returns a function from a signal's name to its value at a tick (`ForwardPass.signal_of`).
    """

    def __init__(self, system: System, signal_of: Callable[[Tick], Callable[[str], Tensor]]) -> None:
        self.system, self.signal_of = system, signal_of
        self._begun: set[str] = set()
        """Agents that have ticked, and so have statistics."""

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
        if not observed.normalised_indices or not _shown(agent, tick):
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

    # --- running statistics ----------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, tick: Tick, window: Window) -> None:
        """Let an agent's first tick guess statistics that are used until its first window has ended."""
        agent = self.system.agents[tick.agent_name]
        normalises = (
            agent.inputs.observed.normalised_indices or agent.inputs.critic_observed.normalised_indices
        )
        if not normalises or agent.name in self._begun or not _shown(agent, tick):
            return
        start, begun = window.statistics_before[self.system.learner_name_by_agent[agent.name]], True
        for name, signals in _observations(agent):
            before = agent.learner.buffers[name]
            missing = self._missing_in(agent, [self._missing(agent, tick, signals)])
            guess = first_statistics(self._values(agent, tick, signals), missing).view_as(before)
            guess = torch.where(before[..., :1] == 0, guess, before)
            agent.learner.put_statistics({name: guess})
            start[name] = torch.where(start[name][..., :1] == 0, guess, start[name])
            begun = begun and (missing is None or bool((guess[..., 0] > 0).all()))
        if begun:
            self._begun.add(agent.name)

    @torch.no_grad()
    def move(self, updates: Iterable[Update]) -> None:
        """Add what the agents observed in windows that they learned from to their statistics."""
        for update in updates:
            for name in update.group.agent_names:
                agent = self.system.agents[name]
                learning = update.window.learning_rows_by_agent[name]
                if learning is not NONE and not agent.learner.frozen:
                    ticks = [tick for tick in update.window.ticks() if tick.agent_name == name]
                    self._update(agent, [tick for tick in ticks if _shown(agent, tick)], learning)

    def _update(self, agent: Agent, ticks: Sequence[Tick], learning: Mask) -> None:
        members = agent.layout.members_in(learning).map(lambda mask: mask.to(self.system.device))
        for name, signals in _observations(agent) if ticks else ():
            values = torch.cat([self._values(agent, tick, signals) for tick in ticks], 1)
            before = agent.learner.buffers[name]
            missing = self._missing_in(agent, [self._missing(agent, tick, signals) for tick in ticks])
            by_member = before.view(len(agent.members), -1)
            after = members.where(merged(by_member, values, missing), by_member).view_as(before)
            agent.learner.put_statistics({name: after})

    @staticmethod
    def _missing(agent: Agent, tick: Tick, names: tuple[str, ...]) -> Mask:
        """The rows in which an observation of a tick is missing, or its agent does not live."""
        signals, layout = tick.observed_signals, agent.layout
        dead = {life: signals.not_alive(life) for life in dict.fromkeys(agent.life_names)}
        gone = {name: ~signals.present(name) for name in dict.fromkeys(names)}
        return layout.select_mask_by_name(gone, names) | layout.select_mask_by_name(dead, agent.life_names)

    @staticmethod
    def _missing_in(agent: Agent, masks: Sequence[Mask]) -> Tensor | None:
        """The masks of ticks as one, [N, ticks * B]; None: nothing is missing."""
        if all(mask is NONE for mask in masks):
            return None
        members = len(agent.members)
        missing_by_tick = [mask.tensor(members * agent.batch, agent.layout.device) for mask in masks]
        return torch.cat([rows.view(members, -1) for rows in missing_by_tick], 1)

    def _values(self, agent: Agent, tick: Tick, names: tuple[str, ...]) -> Tensor:
        """One observation of the members at a tick, [N, B, n]."""
        rows = agent.observation_rows(names, self.signal_of(tick), self.system.dtype)
        return _rows(agent, rows).reshape(len(agent.members), agent.batch, -1)


def _rows(agent: Agent, values: Tensor) -> Tensor:
    """Rows of all members, where they share one observation."""
    return agent.layout.to_rows(values) if values.shape[0] < len(agent.members) * agent.batch else values


def _observations(agent: Agent) -> Iterator[Observation]:
    inputs = agent.inputs
    yield from (
        (f"{OF_NETWORKS}.{index}", inputs.observed.names_by_member[index])
        for index in inputs.observed.normalised_indices
    )
    if inputs.critic_observed.signal_names:
        yield from (
            (f"{OF_CRITICS}.{index}", inputs.critic_observed.names_by_member[index])
            for index in inputs.critic_observed.normalised_indices
        )


def _shown(agent: Agent, tick: Tick) -> bool:
    """Whether a tick has what is normalised: an aligned agent sees nothing before its first message."""
    signals = tick.observed_signals.signals
    return all(name in signals for _, names in _observations(agent) for name in names)
