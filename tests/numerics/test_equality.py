"""The reference backend against plain torch: a locked graph, a hand-written DNI loop, exact gradients."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.comms.synthetic_gradients import Example, Predictor
from antiphon.scenarios import Scenario
from tests.batch_norm import drop_lost_biases, without_lost_biases
from tests.numerics.whole import predictor_of

LAYER: dict[str, Any] = {"kind": "mlp", "hidden": [12], "norm": "batch"}
DOUBLE = torch.float64
DECAYING = {"kind": "adam", "lr": 0.01, "schedule": {"kind": "steps", "at": [0.5, 0.8], "factor": 0.1}}


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
    for _ in range(100):
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
    for _ in range(100):
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


def exact_gradients(simulation: Simulation) -> None:
    """Replace every predictor by the true gradient: an oracle that reads the other agents.

    It computes with the engine's own networks: the claim is of bits.
    """
    names = list("abcd")
    agents = simulation._system.agents

    def predict_from(i: int, example: Example) -> Tensor:
        message = example.message.clone().requires_grad_()
        h = message
        for name in names[i + 1 :]:
            learner = agents[name].learner
            ports, _ = learner.network(learner.parameters, learner.buffers, h, training=True)
            h = ports["objective" if name == "d" else "hidden"]
        loss = F.cross_entropy(h, simulation.world.env_label, reduction="none").sum()  # type: ignore[attr-defined]
        return torch.autograd.grad(loss / len(h), message)[0] * len(h)

    class Oracle(Predictor):
        """Says the truth; learns nothing from it."""

        def __init__(self, inner: Predictor, place: int) -> None:
            self.__dict__.update(inner.__dict__)
            self.place = place

        def predict(self, example: Example) -> Tensor:
            return predict_from(self.place, example)

        def loss(self, example: Example) -> Tensor:
            return self.forward(example.message, example.context, move=False).square().sum()

    for i, channel in enumerate(simulation._system.channels.values()):
        assert channel.predictor is not None
        channel.predictor = Oracle(channel.predictor, i)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_synthetic_gradients_equal_locked_to_the_bit(dtype: torch.dtype) -> None:
    locked = Simulation(chain("locked"), dtype=dtype)
    decoupled = Simulation(chain("decoupled"), dtype=dtype)
    exact_gradients(decoupled)
    for _ in range(20):
        decoupled.world.env_label = decoupled.world.step_signals.signals["label"]  # type: ignore[attr-defined]
        locked.step()
        decoupled.step()
    for name in "abcd":
        for key, p in locked.agents[name].parameters.items():
            assert torch.equal(p, decoupled.agents[name].parameters[key]), (name, key)


def test_an_untrained_predictor_injects_exactly_nothing() -> None:
    simulation = Simulation(chain("decoupled"), dtype=DOUBLE)
    before = {n: [p.clone() for p in simulation.agents[n].parameters.values()] for n in "abcd"}
    simulation.step()
    for update in simulation.learned.updates:
        for injection in update.injected.values():
            assert torch.equal(injection, torch.zeros_like(injection))
    for name in "abc":
        for old, new in zip(before[name], simulation.agents[name].parameters.values(), strict=True):
            assert torch.equal(old, new)
    assert any(
        not torch.equal(o, n)
        for o, n in zip(before["d"], simulation.agents["d"].parameters.values(), strict=True)
    )


@pytest.mark.nightly
def test_targets_of_a_linear_chain_keep_their_norm_at_every_distance() -> None:
    """Scale 0.1 with discount 1: what is learned is small, what is passed on is whole (semantics 3)."""
    linear = {"kind": "mlp", "hidden": [], "norm": "none"}
    names = ["a", "b", "c", "d", "e"]
    agents: dict[str, Any] = {
        n: {"network": linear, "optimiser": {"kind": "sgd", "lr": 1e-12}} for n in names
    }
    agents["a"]["observes"] = ["x"]
    agents["e"]["objective"] = {"kind": "regression", "target": "y"}
    from antiphon.envs import from_tensors

    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=g, dtype=DOUBLE)
    env = from_tensors(x=x, y=x @ torch.randn(6, 6, generator=g, dtype=DOUBLE), training_only=["y"])
    scenario = Scenario.model_validate(
        {
            "scenario": "linear",
            "env": env,
            "agents": agents,
            "channels": [
                {
                    "from": s,
                    "to": r,
                    "size": 6,
                    "norm": "none",
                    "gradient": {"kind": "linear", "context": ["y"], "scale": 0.1, "optimiser": DECAYING},
                }
                for s, r in itertools.pairwise(names)
            ],
            "training": {"batch": 64, "steps": 2000},
        }
    )
    simulation = Simulation(scenario, dtype=DOUBLE)
    simulation.run(1999)
    y = simulation.signals["y"]
    simulation.step()
    lessons = simulation.learned.predictor_updates
    true = true_gradients(simulation, names, y)
    for name, lesson in lessons.items():
        delta = lesson.examples[-1].delta
        assert delta is not None
        ratio = float(delta.norm() / true[name].norm())
        assert ratio == pytest.approx(1.0, abs=1e-3), name


def true_gradients(simulation: Simulation, names: list[str], y: Tensor) -> dict[str, Tensor]:
    """Per-sample gradients of the last step's loss, through all agents at once."""
    keys = list(simulation.channels)
    messages = [simulation.channels[keys[0]].messages[simulation.now - 1].value.detach().requires_grad_()]
    for name, port in zip(names[1:], [*(f"to_{name}" for name in names[2:]), "objective"], strict=True):
        own = simulation.agents[name].parameters
        messages.append(F.linear(messages[-1], own[f"{port}.weight"], own[f"{port}.bias"]))
    loss = (messages[-1] - y).square().mean(1).sum()
    return dict(zip(keys, torch.autograd.grad(loss, messages[:-1]), strict=True))
