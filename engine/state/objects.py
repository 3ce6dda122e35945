"""Buffers of users' own objectives: what a loss that is a module keeps between calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from antiphon.agents.objectives import OwnObjective
from antiphon.engine.heart.system import System

OBJECTS = "objects"
"""Key, in a system's state, of the buffers of own objectives by agent."""


def _objectives(system: System) -> dict[str, dict[str, OwnObjective]]:
    """Return the users' own objectives that have buffers, by agent and by number of the objective."""
    goals = {name: agent.goal.terms for name, agent in system.agents.items() if agent.goal is not None}
    found = {
        name: {
            str(number): term.objective
            for number, term in enumerate(terms)
            if isinstance(term.objective, OwnObjective) and term.objective.buffers()
        }
        for name, terms in goals.items()
    }
    return {name: objectives for name, objectives in found.items() if objectives}


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the buffers of own objectives by agent, without copying a tensor; empty where there are none."""
    saved = {
        name: {number: objective.buffers() for number, objective in by_number.items()}
        for name, by_number in _objectives(system).items()
    }
    return {OBJECTS: saved} if saved else {}


@torch.no_grad()
def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned, of the agents that the system has."""
    objectives = _objectives(system)
    for name, by_number in state.get(OBJECTS, {}).items():
        for number, saved in by_number.items() if name in objectives else ():
            for key, buffer in objectives[name][number].buffers().items():
                buffer.copy_(saved[key])
