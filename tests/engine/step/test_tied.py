"""Tied agents: one set of numbers, one optimiser state, batch statistics over all members (semantics 27a)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.batch_norm import drop_lost_biases
from tests.engine.numbers import assert_as_torch
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64


def eyes(norm: str = "batch", coupling: str = "locked", **changes: Any) -> Scenario:
    """Two tied eyes and a mind."""
    eye = {"share": "eye", "network": {"kind": "mlp", "hidden": [7], "norm": norm}}
    agents: dict[str, Any] = {
        "left": {"observes": ["left_half"], **eye},
        "right": {"observes": ["right_half"], **eye, **changes},
        "mind": {"network": {"kind": "mlp", "hidden": []}, "objective": CLASSIFY},
    }
    channels = [
        {"from": eye, "to": "mind", "size": 3, "port": "seen", "norm": norm, "coupling": coupling}
        for eye in ("left", "right")
    ]
    return scenario_of(agents, channels, optimiser={"kind": "adam", "lr": 0.01})


def network(simulation: Simulation, agent: str, head: str) -> nn.Sequential:
    module = simulation.agents[agent].module.get_submodule("network")
    parts = [module.get_submodule("trunk"), module.get_submodule(f"head_{head}")]
    found = nn.Sequential(*copy.deepcopy(parts)).train()
    drop_lost_biases(found)
    return found


def learn_as_torch(
    simulation: Simulation,
    tied: nn.Module,
    mind: nn.Module,
    steps: int,
    loss: Callable[[dict[str, Tensor]], Tensor],
) -> None:
    """Train plain modules beside a simulation; two agents share `tied`, which follows the mean of their gradients."""
    optimisers = [torch.optim.Adam(m.parameters(), lr=0.01, fused=True) for m in (tied, mind)]
    for _ in range(steps):
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss(simulation.world.step_signals.signals).backward()  # type: ignore[no-untyped-call]
        for q in tied.parameters():
            assert q.grad is not None
            q.grad /= 2
        for optimiser in optimisers:
            optimiser.step()
        simulation.step()


def test_members_of_one_wave_are_one_module_on_stacked_rows() -> None:
    simulation = Simulation(eyes(), dtype=DOUBLE)
    eye, mind = network(simulation, "left", "port_seen"), network(simulation, "mind", "objective")

    def loss(signals: dict[str, Tensor]) -> Tensor:
        halves = torch.cat([signals[f"{side}_half"].flatten(1) for side in ("left", "right")])
        return F.cross_entropy(mind(torch.cat(eye(halves).chunk(2), 1)), signals["label"])

    learn_as_torch(simulation, eye, mind, 30, loss)
    assert_as_torch(simulation, {"left": eye, "right": eye, "mind": mind})


def test_there_is_one_set_of_numbers_and_one_optimiser() -> None:
    simulation = Simulation(eyes(coupling="decoupled"))
    left, right = (simulation._system.agents[name].learner for name in ("left", "right"))
    assert left is right
    simulation.run(5)
    assert simulation.agents["left"].updates == 5
    for name, p in simulation.agents["left"].parameters.items():
        assert p is simulation.agents["right"].parameters[name]


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_decoupled_members_get_the_mean_of_their_gradients(norm: str) -> None:
    """Without batch statistics the members' gradients are those of each alone."""
    simulation = Simulation(eyes(norm, "decoupled"), dtype=DOUBLE)
    simulation.run(3)  # predictors that inject something
    eye = network(simulation, "left", "port_seen")
    signals = simulation.world.step_signals.signals
    messages = [eye(signals[f"{side}_half"].flatten(1)) for side in ("left", "right")]
    simulation.step()
    (update,) = [u for u in simulation.learned.updates if "left" in u.gradients]
    injected = [update.injected[f"{side}->mind"] / 8 for side in ("left", "right")]
    assert all(bool(i.abs().sum() > 0) for i in injected)
    parameters = list(eye.parameters())
    each = [torch.autograd.grad(m, parameters, i) for m, i in zip(messages, injected, strict=True)]
    for found, one, other in zip(update.gradients["left"], *each, strict=True):
        assert found is not None
        torch.testing.assert_close(found, (one + other) / 2, atol=1e-12, rtol=0)


def twice(norm: str) -> Scenario:
    """Two tied agents in different waves: the second hears the first."""
    cell = {"share": "cell", "network": {"kind": "mlp", "hidden": [6], "norm": norm}}
    channel = {"size": 32, "port": "p", "norm": "none", "coupling": "locked"}
    mind = {"network": {"kind": "mlp", "hidden": []}, "objective": CLASSIFY}
    channels = [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]
    agents = {"a": {"observes": ["left_half"], **cell}, "b": cell, "c": mind}
    return scenario_of(agents, channels, optimiser={"kind": "adam", "lr": 0.01})


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_members_of_different_waves_are_one_module_used_twice(norm: str) -> None:
    simulation = Simulation(twice(norm), dtype=DOUBLE)
    cell, mind = network(simulation, "a", "port_p"), network(simulation, "c", "objective")

    def loss(signals: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(mind(cell(cell(signals["left_half"].flatten(1)))), signals["label"])

    learn_as_torch(simulation, cell, mind, 20, loss)
    assert_as_torch(simulation, {"a": cell, "b": cell, "c": mind})


def test_a_group_keeps_its_numbers_whoever_else_is_there() -> None:
    def first(scenario: Scenario) -> dict[str, Tensor]:
        return Simulation(scenario).agents["right"].parameters

    alone, tied = first(eyes(share=None)), first(eyes())
    assert any(not torch.equal(p, tied[k]) for k, p in alone.items())
    for name, p in first(eyes()).items():
        assert torch.equal(p, tied[name])


def test_members_with_other_inputs_or_ports_are_refused() -> None:
    with pytest.raises(ScenarioError, match=r"agents\.right\.share: tied agents need equal inputs and ports"):
        Simulation(eyes(observes=["image"]))
