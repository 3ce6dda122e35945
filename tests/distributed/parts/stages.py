"""Chains of agents that learn digits together, each aligned to the one before it, and what they have learned."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from antiphon import Simulation
from antiphon.scenarios import Scenario


def stages(
    count: int = 3,
    kind: str = "sobolev",
    *,
    batch: int = 8,
    size: int = 12,
    aligned: bool = True,
    steps: int = 40,
    norm: str = "none",
    rate: float = 0.01,
    channel: dict[str, Any] | None = None,
    env: dict[str, Any] | None = None,
) -> Scenario:
    """A chain whose first agent sees the image and whose last one names the digit."""
    names = [f"s{i}" for i in range(count)]
    gradient: dict[str, Any] = {"kind": kind, "context": ["label"]}
    if kind == "local":
        gradient = {"kind": kind, "target": "label"}
    agents: dict[str, Any] = {
        name: {"network": {"kind": "mlp", "hidden": [size], "norm": norm}} for name in names
    }
    agents[names[0]]["observes"] = ["image"]
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    for name in names[1:]:
        agents[name]["align"] = aligned
    way: dict[str, Any] = {"link": {"delay": 1}, **(channel or {})}
    if way.get("coupling") != "delayed":
        way["gradient"] = gradient
    return Scenario.model_validate(
        {
            "scenario": "stages",
            "env": {"id": "antiphon/Digits-v0", **(env or {})},
            "agents": agents,
            "channels": [{"from": a, "to": b, **way} for a, b in pairwise(names)],
            "training": {"batch": batch, "steps": steps, "optimiser": {"kind": "adam", "lr": rate}},
        }
    )


def learned(simulation: Simulation) -> dict[str, torch.Tensor]:
    """Copies of all parameters of agents, synthetic gradients and synthetic inputs, by name."""
    owners: dict[str, Any] = dict(simulation.agents)
    for name, channel in simulation.channels.items():
        owners |= {name: channel.synthetic_gradient, f"input {name}": channel.synthetic_input}
    return {
        f"{name}.{key}": value.detach().clone()
        for name, owner in owners.items()
        if owner is not None
        for key, value in owner.parameters.items()
    }


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The names of what differs."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]
