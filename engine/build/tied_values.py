"""Ties: parameters of several agents that are one weight begin equal."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError
from antiphon.engine.heart.agent import Agent
from antiphon.scenarios.scenario import Scenario
from antiphon.scenarios.tied_parameters import agent_and_parameter

Tie = tuple[tuple[str, str], ...]
"""Agents and parameters."""


@torch.no_grad()
def tie_parameters(scenario: Scenario, agents: Mapping[str, Agent]) -> tuple[Tie, ...]:
    """Give all parameters of each tie the values of its first, and return the ties as agents and parameters.

    Raises:
        ScenarioError: There is no such parameter, or the shapes differ.
    """
    ties: list[Tie] = []
    for index, group in enumerate(scenario.share):
        tied = tuple(agent_and_parameter(name) for name in group)
        first: Tensor | None = None
        for position, (name, parameter) in enumerate(tied):
            parameters = agents[name].learner.parameters
            path = ("share", index, position)
            if parameter not in parameters:
                raise DocumentError(
                    path, f"agent {name!r} has no parameter {parameter!r}{suggest(parameter, parameters)}"
                )
            tensor = parameters[parameter]
            if first is None:
                first = tensor
            elif tensor.shape != first.shape:
                shapes = f"has shape {list(tensor.shape)}, {group[0]!r} has {list(first.shape)}"
                raise DocumentError(path, f"{group[position]!r} {shapes}; tied parameters need one shape")
            else:
                tensor.copy_(first)
        ties.append(tied)
    return tuple(ties)
