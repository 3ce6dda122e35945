"""Buffers of users' own objectives: what a loss that is a module keeps between calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.objectives import OwnObjective
from antiphon.engine.heart.system import System

OBJECTS = "objects"
"""Key, in a system's state, of the buffers of own objectives by agent."""


def state_of_objects(system: System) -> dict[str, Any]:
    """Return the buffers of own objectives by agent and by number of the objective, not copied; empty where there are none."""
    saved: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, agent in system.agents.items():
        for number, term in enumerate(() if agent.goal is None else agent.goal.terms):
            if isinstance(term.objective, OwnObjective) and (buffers := term.objective.buffers()):
                saved.setdefault(name, {})[str(number)] = buffers
    return {OBJECTS: saved} if saved else {}


@torch.no_grad()
def load_objects(system: System, state: Mapping[str, Any]) -> None:
    """Load what `state_of_objects` returned, of the agents that the system has."""
    for name, present in state_of_objects(system).get(OBJECTS, {}).items():
        for number, saved in state.get(OBJECTS, {}).get(name, {}).items():
            for key, buffer in present[number].items():
                buffer.copy_(saved[key])
