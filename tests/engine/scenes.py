"""Scenarios on the embedded digits, and what most tests of the engine look at in a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.comms.gradient import Predictor
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.batch_norm import without_lost_biases

CLASSIFY: dict[str, Any] = {"kind": "classification", "target": "label"}
LINEAR_MAP: dict[str, Any] = {"kind": "mlp", "hidden": [], "norm": "none"}


def digits(
    agents: Mapping[str, Any],
    channels: Sequence[Mapping[str, Any]] = (),
    env: Mapping[str, Any] | None = None,
    telemetry: Mapping[str, Any] | None = None,
    **training: Any,
) -> Scenario:
    """A scenario on the embedded digits: keys of its environment beside the id, and of its training."""
    return Scenario.model_validate(
        {
            "scenario": "scene",
            "env": {"id": "antiphon/Digits-v0", **(env or {})},
            "agents": agents,
            "channels": channels,
            "training": {"batch": 8, **training},
            "telemetry": telemetry or {},
        }
    )


def predictor_of(simulation: Simulation, channel: str) -> Predictor:
    """A channel's synthetic gradient."""
    predictor = simulation.system.channels[channel].predictor
    assert predictor is not None
    return predictor


def parameters(simulation: Simulation, agent: str) -> list[Tensor]:
    """Copies of an agent's parameters."""
    return [p.data.clone() for p in simulation.agents[agent].parameters.values()]


def all_parameters(simulation: Simulation) -> list[Tensor]:
    """Copies of the parameters of all agents."""
    return [p for agent in simulation.agents for p in parameters(simulation, agent)]


def equal(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    """Whether tensors are the same to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fill(owner: Any, value: float) -> None:
    """Set all parameters of a learner or a predictor to a value."""
    for p in owner.parameters.values():
        p.data.fill_(value)


def assert_as_torch(simulation: Simulation, modules: Mapping[str, nn.Module]) -> None:
    """Hold agents to torch's modules: parameters and running statistics."""
    for agent, module in modules.items():
        learner = simulation.system.agents[agent].learner
        own, statistics = without_lost_biases(learner.parameters, learner.buffers)
        running = [b for key, b in module.named_buffers() if "running" in key]
        for found, expected in (
            *zip(own, module.parameters(), strict=True),
            *zip(statistics, running, strict=True),
        ):
            torch.testing.assert_close(found, expected.data, atol=1e-10, rtol=0)
