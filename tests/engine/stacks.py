"""Agents of one kind as single agents and as stacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from antiphon.comms.links import StackedFanIn
from antiphon.engine.build.stacking import stack
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import Stacked, System
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.engine import Engine
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document
from tests.contracts.twins import made


def single_agents(document: Document | Scenario, **settings: Any) -> Simulation:
    """A simulation by the engine in which every stack is of one: its ledgers and tapes can be read."""
    return made(document, "cohort", stacked=False, **settings)


def both(document: Document, **settings: Any) -> tuple[Simulation, Simulation]:
    """The same simulation twice: of single agents, and of stacks."""
    return single_agents(document, **settings), made(document, "cohort", **settings)


def system_of(document: Document, **settings: Any) -> System:
    """The system of a document, one agent at a time."""
    return single_agents(document, **settings)._system


def stacked_system(document: Document, **settings: Any) -> Stacked:
    """The system of a document as stacks."""
    return stack(system_of(document, **settings))


def stacks(found: Stacked) -> list[Agent]:
    """The agents with a leading axis of members."""
    return [agent for agent in found.system.agents.values() if agent.stacked]


def channel_stacks(found: Stacked) -> list[Channel]:
    """The channels between which and their stacks of agents rows are selected: all but those of lone agents."""
    agents, channels = found.system.agents, found.system.channels.values()
    return [c for c in channels if agents[c.sender].stacked or agents[c.receiver].stacked]


def stacked_names(document: Document) -> list[tuple[str, ...]]:
    """The names of each stack's members."""
    return [agent.names for agent in stacks(stacked_system(document))]


def engine_of(simulation: Simulation) -> Engine:
    """The engine of a simulation."""
    assert isinstance(simulation.backend, Engine)
    return simulation.backend


def stack_of(found: Stacked, agent: str) -> Agent:
    """The stack that an agent is in."""
    own = found.system.agents[found.place[agent][0]]
    assert own.stacked
    return own


def layout_of(found: Stacked, agent: str) -> StackedFanIn:
    """The fan-in of the stack that an agent is in."""
    layout = stack_of(found, agent).layout
    assert isinstance(layout, StackedFanIn)
    return layout


def only_channel_stack(found: Stacked) -> Channel:
    """The one stack of channels there is."""
    (own,) = channel_stacks(found)
    return own


def mask(*members: int) -> Tensor:
    """A mask of members, from zeros and ones."""
    return torch.tensor(members) > 0
