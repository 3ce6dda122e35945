"""Schedules and windows: who learns when, and that an episode is one unrolled computation (semantics 13, 14, 16)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64
Document = dict[str, Any]


def make(agents: dict[str, Document], channels: list[Document], **options: Any) -> Scenario:
    net = {"kind": "mlp", "hidden": [6], "norm": "layer", "activation": "tanh"}
    training = {"batch": 4, "optimiser": {"kind": "sgd", "lr": 0.1}, **options.pop("training", {})}
    return scenario_of(
        {name: {"network": net, **agent} for name, agent in agents.items()}, channels, options, **training
    )


@pytest.mark.parametrize("delay", [1, 2])
def test_a_locked_cycle_over_an_episode_equals_backpropagation_through_it(delay: int) -> None:
    clock = {"clock": {"unroll": "episode"}}
    agents: dict[str, Document] = {
        "a": {"observes": ["left_half"], **clock},
        "b": {"observes": ["right_half"], **clock},
        "c": {"objective": CLASSIFY, **clock},
    }
    link = {"coupling": "locked", "size": 4, "norm": "layer", "link": {"delay": delay}}
    pairs = [(s, r) for s, r in ("ab", "bc", "ca", "ba")]
    scenario = make(agents, [{"from": s, "to": r, **link} for s, r in pairs], hold=6, episode="example")
    simulation = Simulation(scenario, dtype=DOUBLE)
    modules: dict[str, Any] = {name: agent.module for name, agent in simulation.agents.items()}
    own = [p for module in modules.values() for p in module.parameters()]
    optimiser = torch.optim.SGD(own, lr=0.1)
    for _ in range(5):
        silence = torch.zeros(4, 4, dtype=DOUBLE)
        sent: list[dict[tuple[str, str], Tensor]] = []
        logits = torch.empty(0)
        for t in range(6):
            signals = simulation.signals
            label = signals["label"]
            outputs: dict[tuple[str, str], Tensor] = {}
            for name, module in modules.items():
                seen = [signals[s].flatten(1) for s in agents[name].get("observes", [])]
                told = [
                    sent[t - delay][s, r] if t >= delay else silence for s, r in sorted(pairs) if r == name
                ]
                ports = module(torch.cat([*seen, *told], 1))
                outputs |= {(s, r): ports[f"to_{r}"] for s, r in pairs if s == name}
                if name == "c":
                    logits = ports["objective"]
            sent.append(outputs)
            simulation.step()
        optimiser.zero_grad()
        F.cross_entropy(logits, label).backward()
        optimiser.step()
        found = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        for one, other in zip(found, own, strict=True):
            torch.testing.assert_close(one.detach(), other.detach(), atol=1e-10, rtol=0)
    assert all(simulation.agents[name].updates == 5 for name in "abc")
