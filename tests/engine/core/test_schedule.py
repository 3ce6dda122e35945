"""Schedules and windows: who learns when, and that a window is one unrolled computation (semantics 13, 14, 16)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.engine.numbers import assert_as_torch
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64
Document = dict[str, Any]


def make(agents: dict[str, Document], channels: list[Document], **options: Any) -> Scenario:
    net = {"kind": "mlp", "hidden": [6], "norm": "layer", "activation": "tanh"}
    training = {"batch": 4, "optimiser": {"kind": "sgd", "lr": 0.1}, **options.pop("training", {})}
    return scenario_of(
        {name: {"network": net, **agent} for name, agent in agents.items()}, channels, options, **training
    )


def networks(simulation: Simulation) -> dict[str, Any]:
    """Every agent as a torch module of the same numbers: trunk and heads."""
    found = {}
    for name in simulation.agents:
        found[name] = copy.deepcopy(simulation.agents[name].module.get_submodule("network"))
    return found


def descend(parameters: list[nn.Parameter], loss: Tensor, rate: float = 0.1) -> None:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    for p, g in zip(parameters, found, strict=True):
        if g is not None:
            p.data -= rate * g


def test_large_coprime_periods_are_nobodys_problem() -> None:
    """Nothing is enumerated over 997 x 991 x 983 steps, in running or in composing."""
    clocks = {"a": 997, "b": 991, "c": 983}
    agents: dict[str, Document] = {n: {"clock": {"period": p}} for n, p in clocks.items()}
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    simulation = Simulation(make(agents, [{"from": s, "to": r} for s, r in ("ab", "bc")]))
    simulation.run(2100)
    assert simulation.agents["c"].updates == 3
    assert simulation.agents["a"].updates == 3
    assert 0 <= simulation.evaluate().accuracy <= 1


def test_tied_agents_join_locked_groups_and_their_windows() -> None:
    agents: dict[str, Document] = {n: {"observes": ["image"]} for n in "abcd"}
    agents["a"]["share"] = agents["c"]["share"] = "g"
    agents["b"] |= {"clock": {"period": 31}, "objective": CLASSIFY}
    agents["d"] |= {"clock": {"period": 37}, "objective": CLASSIFY}
    channels = [{"from": s, "to": r, "coupling": "locked", "size": 3, "port": "p"} for s, r in ("ab", "cd")]
    with pytest.raises(ScenarioError, match=r"agents\.a: a, b, c, d: .* every 1147 steps, more than .* 1024"):
        Simulation(make(agents, channels))
    allowed = Simulation(make(agents, channels, training={"window_limit": 2000}))
    assert "a" not in allowed.step()["losses"]


@pytest.mark.parametrize("unroll", [1, 4])
def test_a_window_is_learned_as_one_unrolled_computation(unroll: int) -> None:
    """The sender's window follows its predictions, the receiver's its loss; both over all their ticks."""
    agents: dict[str, Document] = {
        "a": {"observes": ["image"], "clock": {"unroll": unroll}},
        "b": {"objective": CLASSIFY, "clock": {"unroll": unroll}},
    }
    channel = {"from": "a", "to": "b", "size": 5, "norm": "none", "gradient": {"context": ["label"]}}
    simulation = Simulation(make(agents, [channel]), dtype=DOUBLE)
    modules = networks(simulation)
    sg = nn.Linear(15, 5).double()
    for p in sg.parameters():
        nn.init.zeros_(p)
    live: list[Tensor] = []
    leaves: list[Tensor] = []
    labels: list[Tensor] = []
    losses: list[Tensor] = []
    for _ in range(16):
        signals = simulation.signals
        labels.append(signals["label"])
        a, b = modules["a"], modules["b"]
        live.append(a.head_to_b(a.trunk(signals["image"].flatten(1))))
        leaves.append(live[-1].data.clone().requires_grad_())
        losses.append(F.cross_entropy(b.head_objective(b.trunk(leaves[-1])), labels[-1]))
        simulation.step()
        if len(live) < unroll:
            continue
        given = [torch.cat([m.data, F.one_hot(y, 10).double()], 1) for m, y in zip(live, labels, strict=True)]
        surrogate = sum((m * sg(c).data / 4).sum() for m, c in zip(live, given, strict=True))
        total = torch.stack(losses).sum()
        deltas = [g * 4 for g in torch.autograd.grad(total, leaves, retain_graph=True)]
        assert isinstance(surrogate, Tensor)
        descend(list(a.parameters()), surrogate)
        descend(list(b.parameters()), total)
        errors = [(sg(c) - d).square().sum() / 4 for c, d in zip(given, deltas, strict=True)]
        descend(list(sg.parameters()), torch.stack(errors).sum())  # one step on all that came back
        for kept in (live, leaves, labels, losses):
            kept.clear()
        assert_as_torch(simulation, modules)
    predictor = simulation.channels["a->b"].synthetic_gradient
    assert predictor is not None
    torch.testing.assert_close(predictor.parameters["last.weight"].data, sg.weight.data, atol=1e-10, rtol=0)


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
    modules = networks(simulation)
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
                hidden = module.trunk(torch.cat([*seen, *told], 1))
                outputs |= {
                    (s, r): module.get_submodule(f"head_to_{r}")(hidden) for s, r in pairs if s == name
                }
                if name == "c":
                    logits = module.head_objective(hidden)
            sent.append(outputs)
            simulation.step()
        descend([p for m in modules.values() for p in m.parameters()], F.cross_entropy(logits, label))
        assert_as_torch(simulation, modules)
    assert all(simulation.agents[name].updates == 5 for name in "abc")
