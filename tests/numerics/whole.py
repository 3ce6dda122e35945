"""Deterministic runs: chains of networks that see a whole data set at every step, as the theorems have it.

N is the number of examples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.numerics.linear import leaves
from tests.numerics.played import Played

DOUBLE = torch.float64


class Whole(Played):
    """A source whose environments show all N examples at every step: `x` [N, inputs], `y` [N, outputs] or classes."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__({"x": x.unsqueeze(0), "y": y.unsqueeze(0)}, ("y",), endless=True)

    @property
    def x(self) -> Tensor:
        """What is seen."""
        return self.shown["x"][0]

    @property
    def y(self) -> Tensor:
        """What is asked for."""
        return self.shown["y"][0]


def run_of(
    source: Whole,
    layers: dict[str, Any],
    judge: Any,
    couplings: tuple[str, ...],
    *,
    sizes: tuple[int, ...],
    kind: str = "regression",
    weight: float = 1.0,
    learn: bool = True,
    gradient: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Simulation:
    """A chain of `layers`, then `judge`, which turns the last message into the output that the objective scores."""
    names = [*layers, "judge"]
    agents = {name: {"network": network, "learn": learn} for name, network in layers.items()}
    agents[names[0]]["observes"] = ["x"]
    goal = {"kind": kind, "target": "y", "scale": weight}
    agents["judge"] = {"network": judge, "objective": goal, "learn": learn}
    shared = {
        "norm": "none",
        "gradient": gradient or {"kind": "linear", "context": ["y"]},
    }
    channels = [
        {"from": s, "to": r, "size": n, "coupling": coupling, **shared}
        for s, r, n, coupling in zip(names[:-1], names[1:], sizes, couplings, strict=True)
    ]
    parts: dict[str, Any] = {"env": source, "agents": agents, "channels": channels}
    parts["training"] = {"batch": len(source.x), **(training or {})}
    return Simulation(Scenario.model_validate({"scenario": "theory", **parts}), dtype=DOUBLE)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=DOUBLE)], 1)


def best_fit(source: Whole) -> Tensor:
    """The prediction of least squares, [N, outputs]."""
    features = with_ones(source.x)
    target = source.y.reshape(len(features), -1)
    solution: Tensor = torch.linalg.lstsq(features, target).solution
    return features @ solution


def adam(lr: float, **schedule: Any) -> dict[str, Any]:
    return {"kind": "adam", "lr": lr, **({"schedule": schedule} if schedule else {})}


def loss_of(simulation: Simulation) -> float:
    """Of the next step, before what is learned from it."""
    return float(simulation.step()["losses"]["judge"])


def predictor_of(simulation: Simulation, channel: str = "f->judge") -> Any:
    """The synthetic gradient of a channel."""
    return simulation.channels[channel].synthetic_gradient


def followed(simulation: Simulation, lr: float) -> dict[str, dict[str, Tensor]]:
    """Take a step; the gradients that each agent followed in it, by plain gradient descent at this rate."""
    before = {name: leaves(agent) for name, agent in simulation.agents.items()}
    simulation.step()
    return {
        name: {
            key: (own[key].detach() - p.detach()) / lr
            for key, p in simulation.agents[name].parameters.items()
        }
        for name, own in before.items()
    }
