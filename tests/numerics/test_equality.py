"""Chains with batch norm against plain torch: a locked graph is one module, a decoupled one a hand-written DNI loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.scenarios import Scenario
from tests.batch_norm import drop_lost_biases, without_lost_biases
from tests.numerics.linear import leaves
from tests.numerics.whole import predictor_of

LAYER: dict[str, Any] = {"kind": "mlp", "hidden": [12], "norm": "batch"}
DOUBLE = torch.float64


def chain(
    coupling: str, *, batch: int = 16, steps: int = 100, optimiser: str = "adam", **gradient: Any
) -> Scenario:
    """Three hidden layers and a classifier on the embedded digits."""
    gradient = {"kind": "linear", "context": ["label"], **gradient}
    return Scenario.model_validate(
        {
            "scenario": "chain",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {
                "a": {"observes": ["image"], "network": LAYER},
                "b": {"network": LAYER},
                "c": {"network": LAYER},
                "d": {
                    "network": {"kind": "mlp", "hidden": []},
                    "objective": {"kind": "classification", "target": "label"},
                },
            },
            "channels": [
                {"from": s, "to": r, "coupling": coupling, "gradient": gradient}
                for s, r in ("ab", "bc", "cd")
            ],
            "training": {"batch": batch, "steps": steps, "optimiser": {"kind": optimiser, "lr": 0.003}},
        }
    )


def torch_layers(simulation: Simulation) -> list[nn.Sequential]:
    """Return the agents as plain torch layers in training mode, with the same numbers."""
    layers = []
    for name in "abcd":
        module = simulation.agents[name].module.get_submodule("network")
        parts = [module.get_submodule("trunk")]
        if name == "d":
            parts.append(module.get_submodule("head_objective"))
        layers.append(nn.Sequential(*copy.deepcopy(parts)).train())
        drop_lost_biases(layers[-1])
    return layers


def examples(simulation: Simulation) -> tuple[Tensor, Tensor]:
    """The minibatch the next step will see."""
    signals = simulation.signals
    return signals["image"].flatten(1), signals["label"]


def difference(simulation: Simulation, layers: list[nn.Sequential]) -> float:
    worst = 0.0
    for name, layer in zip("abcd", layers, strict=True):
        agent = simulation.agents[name]
        own, statistics = without_lost_biases(agent.parameters, agent.buffers)
        worst = max(
            worst,
            *(float((p - q.data).abs().max()) for p, q in zip(own, layer.parameters(), strict=True)),
        )
        theirs = {k: v for k, v in layer.named_buffers() if "running" in k}
        worst = max(
            worst,
            *(float((p - q).abs().max()) for p, q in zip(statistics, theirs.values(), strict=True)),
            0.0,
        )
    return worst


def test_a_locked_graph_equals_one_torch_module_under_plain_autograd() -> None:
    simulation = Simulation(chain("locked"), dtype=DOUBLE)
    layers = torch_layers(simulation)
    optimiser = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=0.003, fused=True)
    for _ in range(40):
        x, y = examples(simulation)
        loss = F.cross_entropy(nn.Sequential(*layers)(x), y, reduction="none").sum() / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        info = simulation.step()
        assert abs(float(info["losses"]["d"]) - loss.item()) < 1e-10
    assert difference(simulation, layers) < 1e-10


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_decoupled_chain_equals_a_hand_written_loop(scale: float) -> None:
    simulation = Simulation(chain("decoupled", scale=scale), dtype=DOUBLE)
    layers = torch_layers(simulation)
    predictors = [nn.Linear(12 + 10, 12).double() for _ in range(3)]
    for predictor in predictors:
        nn.init.zeros_(predictor.weight)
        nn.init.zeros_(predictor.bias)
    optimisers = [torch.optim.Adam(m.parameters(), lr=0.003, fused=True) for m in [*layers, *predictors]]
    for _ in range(40):
        x, y = examples(simulation)
        batch, label = len(x), F.one_hot(y, 10).double()
        for optimiser in optimisers:
            optimiser.zero_grad()
        leaves, predictions, outputs, h = [], [], [], x
        for i, layer in enumerate(layers):
            if i:
                h = h.detach().requires_grad_()
                leaves.append(h)
            h = layer(h)
            outputs.append(h)
            if i < 3:
                predictions.append(predictors[i](torch.cat([h.detach(), label], 1)))
        loss = F.cross_entropy(h, y, reduction="none").sum() / batch
        deltas = []
        for i in range(4):  # what a layer returns counts its predictor in full; what it learns, scaled
            if i:
                if i < 3:
                    (g,) = torch.autograd.grad(
                        outputs[i], leaves[i - 1], predictions[i].detach() / batch, retain_graph=True
                    )
                else:
                    (g,) = torch.autograd.grad(loss, leaves[i - 1], retain_graph=True)
                deltas.append(g * batch)
        for i, layer in enumerate(layers):
            parameters = list(layer.parameters())
            if i < 3:
                grads = torch.autograd.grad(outputs[i], parameters, predictions[i].detach() * scale / batch)
            else:
                grads = torch.autograd.grad(loss, parameters)
            for p, g in zip(parameters, grads, strict=True):
                p.grad = g
        for prediction, delta in zip(predictions, deltas, strict=True):
            ((prediction - delta).square().sum() / batch).backward()
        for optimiser in optimisers:
            optimiser.step()
        simulation.step()
    assert difference(simulation, layers) < 1e-10
    for channel, predictor in zip(simulation.channels, predictors, strict=True):
        own = predictor_of(simulation, channel).parameters
        torch.testing.assert_close(own["last.weight"], predictor.weight, atol=1e-10, rtol=0)


def test_an_untrained_predictor_injects_exactly_nothing() -> None:
    simulation = Simulation(chain("decoupled"), dtype=DOUBLE)
    before = {name: leaves(agent) for name, agent in simulation.agents.items()}
    simulation.step()
    for name, own in before.items():
        moved = [not torch.equal(p, simulation.agents[name].parameters[key]) for key, p in own.items()]
        assert any(moved) if name == "d" else not any(moved)
