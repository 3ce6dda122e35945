"""Chains of agents that learn digits together, each aligned to the one before it, and parts that exchange at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from antiphon import Simulation
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.parts.part import Part
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


def exchange(parts: Sequence[Part]) -> None:
    """Deliver all that the parts have for one another."""
    for to, found in [(n, part.collect(n)) for part in parts for n in part.neighbours]:
        parts[to].deliver(found)


def learned(agents: dict[str, Agent], channels: dict[str, Channel]) -> dict[str, torch.Tensor]:
    """All parameters of agents and predictors by name; of a cut channel those of the half that has its sender."""
    found = {
        f"{name}.{key}": value
        for name, agent in agents.items()
        for key, value in agent.learner.parameters.items()
    }
    for name, channel in channels.items():
        if channel.predictor is not None and channel.sender in agents:
            found |= {f"{name}.{key}": value for key, value in channel.predictor.parameters.items()}
    return found


def of_parts(parts: Sequence[Part]) -> dict[str, torch.Tensor]:
    """What all parts have learned."""
    found: dict[str, torch.Tensor] = {}
    for part in parts:
        base = part.backend.per_agent()
        found |= learned(base.agents, base.channels)
    return found


def of_simulation(simulation: Simulation) -> dict[str, torch.Tensor]:
    """What a simulation has learned."""
    return learned(simulation._system.agents, simulation._system.channels)


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    """The names of what differs."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]
