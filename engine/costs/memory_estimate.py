"""Estimate of the memory that a system needs, and what the machine has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import networkx as nx
import torch
from torch import Tensor

from antiphon.agents.network import features_of
from antiphon.base.memory import installed_memory
from antiphon.engine.build.stack_kinds import stacks_of
from antiphon.engine.costs.cost_model import CostModel
from antiphon.engine.features.sweep import sweep_obstacle
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup

_ACTION, _MASKS = 8, 3
"""Bytes of a choice, and of what is true of a tick."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a system at its fullest: at a step at which all learn.

    torch itself, the environment's data and what telemetry keeps are not in it.
    """

    parameters: int
    """Parameters of all agents, with their running statistics; tied agents have them once."""
    optimiser: int
    """The agents' optimisers: moments, or momentum."""
    predictors: int
    """Synthetic gradients and inputs: parameters, running statistics, optimiser state."""
    gradients: int
    """The gradients of all that is learned at one step."""
    messages: int
    """In flight, or waiting for what comes back, as many as delays, windows and periods keep."""
    replay: int
    """Windows in replay buffers, once they are full."""
    activations: int
    """What autograd keeps of the agents until their windows are differentiated."""

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def memory_of(system: System, costs: CostModel) -> MemoryEstimate:
    """Return the memory of a built system; its tensors may be on torch's meta device."""
    learners = [agent.learner for agent in system.first_agents().values()]
    channels = [channel for agent in system.agents.values() for channel in agent.connections.read_channels]
    models = [model for channel in channels for model in channel.models]
    return MemoryEstimate(
        parameters=sum(_size(learner.parameters.values(), learner.buffers.values()) for learner in learners),
        optimiser=sum(_size(learner.optimiser.expected()) for learner in learners),
        predictors=sum(
            _size(m.parameters.values(), m.buffers.values(), m.optimiser.expected()) for m in models
        ),
        gradients=sum(_size(owner.trainable) for owner in (*learners, *models)),
        messages=sum(_messages(system, channel) for channel in channels),
        replay=sum(_replay(system, agent) for agent in system.agents.values()),
        activations=_activations(system, costs),
    )


def _size(*tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for group in tensors for t in group)


def _messages(system: System, channel: Channel) -> int:
    copies = 1 + channel.ledger.returns_gradients + channel.ledger.link.changes_values
    return _size([channel.content.zeros]) * (
        1 + copies * slots(channel, system.group_by_agent[channel.sender])
    )


def _replay(system: System, agent: Agent) -> int:
    windows = 1 if agent.policy is None else agent.policy.windows_kept
    if windows == 1:
        return 0
    ticks = system.group_by_agent[agent.name].grid.max_ticks(agent.clock.tick_period)
    numbers = features_of(agent.learner.network.input_shape) + 1  # the input and the reward
    of_tick = numbers * system.dtype.itemsize + _ACTION + _MASKS
    return system.batch * (windows * ticks * of_tick + _ACTION)


def slots(channel: Channel, sender: LearningGroup) -> int:
    """Return how many messages of a channel are kept at a time, at most: until `sender`, the group, has learned from them."""
    ledger = channel.ledger
    if channel.carries_state:  # all but the newest of a window are passed on with their graph
        return 3
    every = ledger.timetable.sender_clock.tick_period
    read = max(math.ceil(every), ledger.timetable.receiver_clock.tick_period)
    used = ledger.timetable.delay + read - 1 + ledger.timetable.receiver_grid.max_steps() - 1 + ledger.slack
    learned = sender.grid.max_steps() * (1 + max(sender.horizons.values(), default=0))
    return math.ceil(max(used + ledger.timetable.return_delay + 1, learned) / every)


def _activations(system: System, costs: CostModel) -> int:
    """Return the bytes kept for backward at most: with `training.sweep`, of the largest graph and of what has to wait."""
    last = {name: costs.network(agent).saved for name, agent in system.agents.items()}
    bytes_by_agent = {
        n: last[n] * system.group_by_agent[n].grid.max_ticks(agent.clock.tick_period)
        for n, agent in system.agents.items()
    }
    if not system.schedule.sweep:
        return sum(bytes_by_agent.values())
    graphs: nx.Graph[str] = nx.Graph()  # of a learning group and of the agents stacked with it
    for names in (group.agent_names for group in system.groups):
        nx.add_path(graphs, names)
    for members in stacks_of(system)[0]:
        nx.add_path(graphs, [agent.name for agent in members])
    obstructed = {
        n for group in system.groups if sweep_obstacle(system, group) is not None for n in group.agent_names
    }
    waiting = largest = 0
    for graph in nx.connected_components(graphs):
        swept = 0 if graph & obstructed else sum(last[name] for name in graph)
        waiting += (
            sum(bytes_by_agent[name] for name in graph) - swept
        )  # earlier ticks of a window wait for its last
        largest = max(largest, swept)
    return waiting + largest


def device_memory(device: torch.device) -> int | None:
    """Return the bytes of memory that a device has, or that this process may have of it; None: not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1]) if torch.cuda.is_available() else None
    return installed_memory()
