"""Joining: the trained parts of a split model are loaded into a copy of the model; parameters that parts share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from antiphon.base.errors import RunError
from antiphon.running.simulation import Simulation
from antiphon.splitting.parts import ModelPart, PartModule

_PREFIX = "module."


@dataclass(frozen=True, eq=False)
class Origin:
    """A model as it was when it was split; copies of a part share it."""

    model: nn.Module

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self


def join(run: Simulation) -> nn.Module:
    """Return a split model with its trained parameters and buffers.

    Args:
        run: A simulation of a scenario made by `antiphon.split`: running, finished or resumed.

    Returns:
        A model of the original class, with every key of its state dict. Parameters that no part uses, and frozen ones, keep
        their values.

    Raises:
        RunError: The run's scenario was not made by `split`.
    """
    origins = {
        name: agent.network.origin
        for name, agent in run.scenario.agents.items()
        if isinstance(agent.network, PartModule) and isinstance(agent.network.origin, Origin)
    }
    if not origins:
        raise RunError(f"join: scenario '{run.scenario.scenario}' was not made by antiphon.split")
    for name in origins:
        if run.scenario.agents[name].normalised:
            raise RunError(
                f"join: agent '{name}' observes normalised signals, which the model does not; normalise in the model"
            )
    origin = next(iter(origins.values())).model
    model = copy.deepcopy(origin)
    values = {
        key.removeprefix(_PREFIX): value
        for name in origins
        for learner in [run.running.system.agents[name].learner]
        for key, value in [*learner.parameters.items(), *learner.buffers.items()]
    }
    with torch.no_grad():
        for key, value in values.items():
            path, _, name = key.rpartition(".")
            module = model.get_submodule(path)
            if not hasattr(module, name):
                continue  # a constant of a part
            if name in module._buffers and getattr(module, name).shape != value.shape:
                module._buffers[name] = value.to(
                    getattr(module, name), copy=True
                )  # a forward has replaced it
            getattr(module, name).copy_(value)
    return model


def tied_parameters(parts: Mapping[str, ModelPart]) -> list[list[str]]:
    """Return the parameters that are one in the model and several in the parts, each as `part.module.key`."""
    groups: dict[nn.Parameter, list[str]] = {}
    for name, part in parts.items():
        for key, p in part.module.named_parameters():
            if p.requires_grad:
                groups.setdefault(p, []).append(f"{name}.module.{key}")
    return [group for group in groups.values() if len(group) > 1]
