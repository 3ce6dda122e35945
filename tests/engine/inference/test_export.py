"""Export: a system of examples as one torch module computes what an evaluation over perfect links does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from tests.engine.scenes import scenario_of

Document = dict[str, Any]
GOAL = {"kind": "classification", "target": "label"}


def make(
    agents: dict[str, Document], channels: list[Document], env: Any = None, **options: Any
) -> Simulation:
    agents = {name: {"network": {"kind": "mlp", "hidden": [6]}, **agent} for name, agent in agents.items()}
    env = options if env is None else env
    scenario = scenario_of(agents, channels, env, batch=5, optimiser={"kind": "adam", "lr": 0.01})
    simulation = Simulation(scenario, dtype=torch.float64)
    simulation.run(6)
    return simulation


@torch.no_grad()
def assert_composed(simulation: Simulation) -> None:
    """Score the module by hand, a third of the split at a time, beside the evaluation of the whole."""
    module, env = simulation.compose(), simulation.world.env
    losses: dict[str, list[Tensor]] = {}
    for batch in env.batches("test", env.example_count("test") // 3):
        for name, output in module(batch).items():
            losses.setdefault(name, []).append(F.cross_entropy(output, batch["label"], reduction="none"))
    assert set(losses) == set(simulation.scenario.readouts)
    found = simulation.evaluate()
    for name, own in losses.items():
        loss = torch.cat(own)
        assert found.agents[name]["loss"] == pytest.approx(float(loss.mean()), abs=1e-12)
        assert float(loss.std()) > 1e-3  # outputs depend on what is shown


def chain(**channel: Any) -> list[Document]:
    return [{"from": s, "to": r, "size": 4, **channel} for s, r in ("ab", "bc")]


def line(**more: Document) -> dict[str, Document]:
    base: dict[str, Document] = {"a": {"observes": ["image"]}, "b": {}, "c": {"objective": GOAL}}
    return {name: {**base[name], **more.get(name, {})} for name in base}


def ways(*pairs: str) -> list[Document]:
    return [{"from": s, "to": r, "size": 4, "link": {"delay": 1}} for s, r in pairs]


SPOILT = {"drop": 0.3, "noise": 0.2, "bits": 3}
"""What perfect links leave out."""
SKIP = {"from": "a", "to": "c", "size": 3}
CYCLE = ways("ab", "bc", "ca", "ba", "cc")
CLOCKS = line(
    a={"clock": {"period": 4, "phase": 3}},
    b={"clock": {"period": 2}},
    c={"clock": {"period": 3, "phase": -1}},
)
LAST = line(c={"clock": {"period": 4, "phase": -1}})
MAPS: Document = {"kind": "conv", "hidden": [3], "size": 3, "pool": ["max"], "norm": "batch"}
MAPS_ON = {**MAPS, "norm": "layer", "pool": ["avg"]}
OF_MAPS: list[Document] = [
    {"from": "a", "to": "b", "link": {"delay": 1}},
    {"from": "b", "to": "c", "size": [2, 3, 3], "norm": "layer"},
]
SCENES: dict[str, tuple[dict[str, Document], list[Document], Document]] = {
    "a chain": (line(), chain(), {}),
    "delays, and links that spoil": (line(), chain(link={"delay": 2, **SPOILT}), {}),
    "a shorter way": (line(), [*chain(link={"delay": 2}), SKIP], {}),
    "an example that is held": (line(), CYCLE, {"hold": 6}),
    "an example that is an episode": (line(), CYCLE, {"hold": 6, "episode": "example"}),
    "clocks": (CLOCKS, chain(), {}),  # a at 3, b at 4, c at 5
    "a late tick": (LAST, chain(), {}),
    "a tick later than the example": (LAST, chain(), {"hold": 2, "episode": "example"}),
    "feature maps": (line(a={"network": MAPS}, b={"network": MAPS_ON}), OF_MAPS, {}),
}


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", SCENES)
def test_it_scores_what_an_evaluation_does(name: str) -> None:
    agents, channels, env = SCENES[name]
    assert_composed(make(agents, channels, **env))


class Remembering(nn.Module):
    """A network of the user's own, with a state."""

    state_size = 3

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.last = nn.GRUCell(inputs, 3), nn.Linear(3, outputs)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.cell(x, state)
        return self.last(state), state


@pytest.mark.parametrize(
    ("fan_in", "more"), [("sum", {}), ("mean", {}), ("attention", {"network": Remembering})]
)
def test_fan_in_counts_what_has_come(fan_in: str, more: Document) -> None:
    agents = line(b={"observes": ["left_half"]}, c={"objective": GOAL, "fan_in": fan_in, **more})
    channels: list[Document] = [
        {**SKIP, "size": 4},
        {"from": "b", "to": "c", "size": 4, "link": {"delay": 9}},
    ]
    assert_composed(make(agents, channels, hold=3, episode="example"))
