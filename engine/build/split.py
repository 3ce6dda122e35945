"""Splitting: a torch model becomes a chain of agents."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from antiphon.envs import registry
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario

__all__ = ["split"]


def split(
    model: nn.Sequential,
    at: Sequence[int],
    *,
    env: Any,
    observes: str = "image",
    objective: str | Mapping[str, Any] | None = None,
    coupling: str = "decoupled",
    gradient: str | Mapping[str, Any] = "linear",
    scenario: str = "split",
    **training: Any,
) -> Scenario:
    """Cut a sequential model into a chain of agents joined by channels.

    Args:
        model: Its layers; the agents start from copies of their present parameters.
        at: Positions before which to cut, rising: `at=[2, 4]` gives layers 0-1, 2-3 and 4 on.
        env: As a scenario has it: `{"id": …}`, `antiphon.envs.from_tensors(…)`, …
        observes: The signal the first agent sees; the model takes [batch, *its input shape].
        objective: The last agent's; None: classification of `label`; a word names the target to classify.
        coupling: Of every channel.
        gradient: Of every channel.
        scenario: The scenario's name; its agents are `part0`, `part1`, ….
        **training: `batch`, `steps`, `optimiser`, ….

    Raises:
        ScenarioError: A cut is out of place, or the model does not take the signal.
    """
    cuts = [0, *at, len(model)]
    if any(not early < late for early, late in itertools.pairwise(cuts)):
        raise ScenarioError(
            f"split: at={list(at)} must rise between 1 and {len(model) - 1}, the model's layers"
        )
    description = registry.describe(env)
    if observes not in description.observations:
        raise ScenarioError(
            f"split: no observation '{observes}'; the environment shows {description.observations}"
        )
    if objective is None or isinstance(objective, str):
        objective = {"kind": "classification", "target": objective or "label"}
    shape = description.signals[observes].input_shape
    agents: dict[str, dict[str, Any]] = {}
    channels: list[dict[str, Any]] = []
    names = [f"part{i}" for i in range(len(cuts) - 1)]
    for i, name in enumerate(names):
        piece = nn.Sequential(*list(model)[cuts[i] : cuts[i + 1]])
        after = _shape_after(piece, shape, cuts[i])
        # Agents take and give flat rows; the layers in between see the shapes they are used to.
        agents[name] = {"network": nn.Sequential(nn.Unflatten(1, shape), *piece, nn.Flatten(1))}
        if i:
            ends = {"from": names[i - 1], "to": name, "size": torch.Size(shape).numel()}
            channels.append({**ends, "norm": "none", "coupling": coupling, "gradient": gradient})
        shape = after
    agents[names[0]]["observes"] = [observes]
    agents[names[-1]]["objective"] = objective
    return Scenario.model_validate(
        {"scenario": scenario, "env": env, "agents": agents, "channels": channels, "training": training}
    )


def _shape_after(piece: nn.Sequential, shape: tuple[int, ...], start: int) -> tuple[int, ...]:
    modes = [(module, module.training) for module in piece.modules()]
    try:
        with torch.no_grad():
            return tuple(piece.eval()(torch.zeros(2, *shape)).shape[1:])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ScenarioError(
            f"split: the layers from {start} on do not take [batch, {', '.join(map(str, shape))}] ({reason})"
        ) from None
    finally:
        for module, training in modes:
            module.training = training
