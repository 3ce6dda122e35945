"""A built scenario, everything a backend works on: agents, channels, and what learns as one network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.engine.heart.agent import Agent, Goal
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.clock import StepWindows, TickSchedule, WindowGrid
from antiphon.engine.heart.window import LearningGroup

if TYPE_CHECKING:
    from antiphon.envs.signal import Description
    from antiphon.nets.trained_parameters import TrainedParameters


@dataclass(eq=False)
class System:
    """Agents, channels and groups, made once by the builder.

    Attributes:
        agents: The stacks of agents, by name in canonical order; of channels the same.
        batch: B, the number of environments of one seed.
        seed_count: How many seeds are computed as one, each with B environments of its own.
        sweeps: Whether a group is differentiated as soon as it has ticked, where its learning signal is complete then.
        tied_parameters: Groups of parameters, (agent, parameter) each, that are one weight.
        remote_parts: Where the system is one part of several, the part that the other endpoint of each cut channel is
            in. Only channels to one part are stacked (engine/build/channel_stacking.py).
        events: The run's events, (step, one line).
        stopped_seeds: Of several seeds those that have diverged, with its line, while others continue.
    """

    agents: dict[str, Agent]
    channels: dict[str, Channel]
    groups: list[LearningGroup]
    schedule: TickSchedule
    description: Description
    batch: int
    dtype: torch.dtype
    device: torch.device
    seed_count: int = 1
    sweeps: bool = False
    tied_parameters: tuple[tuple[tuple[str, str], ...], ...] = ()
    remote_parts: Mapping[str, int] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    stopped_seeds: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        learner_names = self.learner_name_by_agent
        for group in self.groups:
            group.agent_count_by_learner = dict(Counter(learner_names[name] for name in group.agent_names))

    @cached_property
    def group_by_agent(self) -> dict[str, LearningGroup]:
        return {name: group for group in self.groups for name in group.agent_names}

    @cached_property
    def agents_by_learner(self) -> dict[str, list[Agent]]:
        """The agents of each learner, by its name, which is that of the first: several, where they are tied."""
        agents: dict[Learner, list[Agent]] = {}
        for agent in self.agents.values():
            agents.setdefault(agent.learner, []).append(agent)
        return {tied[0].name: tied for tied in agents.values()}

    @cached_property
    def learner_name_by_agent(self) -> dict[str, str]:
        return {agent.name: name for name, tied in self.agents_by_learner.items() for agent in tied}

    @property
    def episodes(self) -> WindowGrid | None:
        """The episodes, where ends are known ahead: of one length, or windows themselves; None: known as they come."""
        length = self.description.episode_steps
        return self.schedule.episode_windows if length is None else StepWindows(length)

    def first_agents(self) -> dict[str, Agent]:
        return {name: tied[0] for name, tied in self.agents_by_learner.items()}

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros of its type, on its device."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    @property
    def trained_parameters(self) -> list[TrainedParameters]:
        """All learners, each once, and all predictors."""
        models = (model for channel in self.channels.values() for model in channel.models)
        return list(dict.fromkeys([*(agent.learner for agent in self.agents.values()), *models]))

    def goals(self) -> dict[str, Goal]:
        return {name: agent.goal for name, agent in self.agents.items() if agent.goal is not None}
