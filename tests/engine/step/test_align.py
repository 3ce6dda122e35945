"""Aligned agents: a pipelined chain gives each agent the observation and target of the stamp it consumed (semantics 21)."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.numbers import assert_as_torch
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64


def pipeline(env: dict[str, Any] | None = None, **changes: Any) -> Scenario:
    """a -> b -> c, one step from each to the next; c also looks at the right half of what it is told about."""
    net = {"kind": "mlp", "hidden": [8], "norm": "none", "activation": "tanh"}
    agents: dict[str, Any] = {
        "a": {"observes": ["image"], "network": net},
        "b": {"network": net, "align": True},
        "c": {
            "observes": ["right_half"],
            "network": {"kind": "mlp", "hidden": []},
            "objective": CLASSIFY,
            "align": "b->c",
        },
    }
    agents["c"] |= changes
    channel = {"link": {"delay": 1}, "gradient": {"context": ["label"]}}
    channels = [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]
    return scenario_of(agents, channels, env, batch=16, steps=400, optimiser={"kind": "sgd", "lr": 0.1})


def torch_layers(simulation: Simulation) -> list[nn.Sequential]:
    layers = []
    for name in "abc":
        network = simulation.agents[name].module.get_submodule("network")
        parts = [network.get_submodule("head_objective" if name == "c" else "trunk")]
        layers.append(nn.Sequential(*copy.deepcopy(parts)))
    return layers


def descend(parameters: list[nn.Parameter], found: tuple[Tensor, ...]) -> None:
    for p, g in zip(parameters, found, strict=False):
        p.data -= 0.1 * g


def test_it_equals_a_hand_written_pipeline() -> None:
    simulation = Simulation(pipeline(), dtype=DOUBLE)
    a, b, c = layers = torch_layers(simulation)
    sg = [nn.Linear(18, 8).double(), nn.Linear(18, 8).double()]
    for layer in sg:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    images: list[Tensor] = []
    halves: list[Tensor] = []
    labels: list[Tensor] = []
    from_a: list[Tensor] = []
    from_b: list[Tensor] = []
    back: dict[int, list[tuple[int, Tensor, Tensor, Tensor]]] = {}
    for t in range(40):
        signals = simulation.world.step_signals.signals
        images.append(signals["image"].flatten(1))
        halves.append(signals["right_half"].flatten(1))
        labels.append(signals["label"])
        jobs: list[tuple[nn.Module, tuple[Tensor, ...]]] = []

        def injected(which: int, message: Tensor, stamp: int) -> Tensor:
            label = F.one_hot(labels[stamp], 10).double()
            prediction: Tensor = sg[which](torch.cat([message.data, label], 1))
            return prediction.data / 16

        live = a(images[t])
        from_a.append(live.data)
        jobs.append((a, torch.autograd.grad(live, list(a.parameters()), injected(0, live, t))))
        if t >= 1:  # b works on the example of t - 1
            leaf = from_a[t - 1].clone().requires_grad_()
            live = b(leaf)
            weight = injected(1, live, t - 1)
            found = torch.autograd.grad(live, [*b.parameters(), leaf], weight)
            jobs.append((b, found))
            label = F.one_hot(labels[t - 1], 10).double()
            back.setdefault(t + 1, []).append((0, from_a[t - 1], label, found[-1] * 16))
            from_b.append(live.data)
        else:
            from_b.append(b(torch.zeros(16, 8, dtype=DOUBLE)).data)
        if t >= 2:  # c on that of t - 2
            leaf = from_b[t - 1].clone().requires_grad_()
            loss = F.cross_entropy(c(torch.cat([halves[t - 2], leaf], 1)), labels[t - 2])
            found = torch.autograd.grad(loss, [*c.parameters(), leaf])
            jobs.append((c, found))
            label = F.one_hot(labels[t - 2], 10).double()
            back.setdefault(t + 1, []).append((1, from_b[t - 1], label, found[-1] * 16))
        for module, found in jobs:
            descend(list(module.parameters()), found)
        for which, message, label, delta in back.pop(t, []):
            error = sg[which](torch.cat([message, label], 1)) - delta
            descend(
                list(sg[which].parameters()),
                torch.autograd.grad(error.square().sum() / 16, list(sg[which].parameters())),
            )
        info = simulation.step()
        assert ("c" in info["losses"]) == (t >= 2)
        assert_as_torch(simulation, dict(zip("abc", layers, strict=True)))
    assert bool(sg[0].weight.abs().sum() > 0)


def test_it_learns_where_an_unaligned_one_is_told_another_examples_label() -> None:
    aligned, unaligned = (Simulation(pipeline(observes=[], align=align), seed=1) for align in ("b->c", None))
    for simulation in (aligned, unaligned):
        simulation.run(400)
    assert aligned.evaluate().accuracy > 0.6
    assert unaligned.evaluate().accuracy < 0.3


def test_there_is_no_loss_before_the_first_message_nor_after_its_episode_has_ended() -> None:
    simulation = Simulation(pipeline({"hold": 3, "episode": "example"}))
    told = [("c" in info["losses"]) for info in (simulation.step() for _ in range(9))]
    # Of three steps of an example, c is told about the first at the third; its label counts at the last alone.
    assert told == [False] * 9
    each = Simulation(pipeline({"hold": 3, "episode": "example"}, objective={**CLASSIFY, "when": "each"}))
    told = [("c" in info["losses"]) for info in (each.step() for _ in range(9))]
    assert told == [False, False, True] * 3


def test_an_aligned_agent_sees_what_its_message_was_made_from() -> None:
    simulation = Simulation(pipeline())
    shown = []
    for t in range(6):
        shown.append(simulation.world.step_signals.signals["right_half"])
        simulation.step()
        for update in simulation.learned.updates:
            for part in (part for tick in update.tape.ticks for part in tick.parts if part.agent == "c"):
                assert part.step_signals.step == (t - 2 if t >= 2 else -1)
                if t >= 2:
                    assert torch.equal(part.step_signals.signals["right_half"], shown[t - 2])
