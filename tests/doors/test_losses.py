"""What a user hands over as a loss keeps its meaning, or is refused in one line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import antiphon
from antiphon import Simulation
from antiphon.inspection.ablation import ablate
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.reference.backend import Chosen, reference

# --- class weights, label smoothing ------------------------------------------------------------------------

WEIGHT = [0.1, 0.5, 2.0, 1.0]


def labels(shape: tuple[int, ...], missing: int) -> torch.Tensor:
    """Classes of 40 examples; each so-many-th example, or site, has none (-100)."""
    y = torch.randint(4, (40, *shape), generator=torch.Generator().manual_seed(1))
    y.view(-1)[::missing] = -100
    return y


@pytest.mark.parametrize("shape", [(), (3,)])
@pytest.mark.parametrize("backend", ["cohort", "native", reference])
def test_class_weights_and_label_smoothing_are_those_of_torch(
    shape: tuple[int, ...], backend: Chosen
) -> None:
    torch.manual_seed(0)
    y = labels(shape, 5)
    env = antiphon.envs.from_tensors(x=torch.randn(40, 5), y=y, training_only=["y"])
    how = {"weight": WEIGHT, "label_smoothing": 0.2, "reduction": "mean"}
    goal = {"kind": "classification", "target": "y", **how}
    agent = {"observes": ["x"], "network": nn.Linear(5, 4 * math.prod(shape)), "objective": goal}
    with Simulation(scenario_of({"a": agent}, env=env), dtype=torch.float64, backend=backend) as simulation:
        x, target, there = (simulation.signals[name] for name in ("x", "y", "_y"))
        logits = simulation.compose()({"x": x.double()})["a"].reshape(-1, 4)
        target = target.masked_fill(~there.reshape(target.shape), -100).flatten()
        weight = torch.tensor(WEIGHT, dtype=torch.float64)
        right = cross_entropy(logits, target, weight=weight, label_smoothing=0.2)
        assert simulation.step()["losses"]["a"] == pytest.approx(right.item(), abs=1e-12)


@pytest.mark.parametrize("order", ["as drawn", "by class"])
@pytest.mark.parametrize("reduction", ["mean", "batchmean"])
def test_a_splits_loss_with_class_weights_is_that_of_torch_however_it_is_cut(
    reduction: str, order: str
) -> None:
    numbers = torch.Generator().manual_seed(1)
    x = torch.randn(1200, 4, generator=numbers)
    y = (x[:, 0] > 1.88).long()
    test = {"x": x, "y": y}
    if order == "by class":
        test = {name: value[y.argsort(stable=True)] for name, value in test.items()}
    net, weight = nn.Linear(4, 5), torch.tensor([1.0, 30.0])
    goal = {"kind": "classification", "target": "y", "weight": weight, "reduction": reduction}
    env = antiphon.envs.from_tensors(x=x, y=y, test=test)
    agents = {
        "a": {"observes": ["x"], "network": net, "objective": goal},
        "b": {"objective": {"kind": "classification", "target": "y", "weight": weight}},
    }
    channel = {"from": "a", "to": "b", "size": 3, "coupling": "locked"}
    right = cross_entropy(net(x)[:, :2], y, weight).item()
    with Simulation(scenario_of(agents, channels=[channel], env=env)) as simulation:
        assert simulation.evaluate().agents["a"]["loss"] == pytest.approx(right, abs=1e-5)
        ablation = ablate(simulation, "zero")
        assert ablation.intact["a"]["loss"] == pytest.approx(right, abs=1e-5)
        assert ablation.intact["b"]["loss"] == pytest.approx(
            simulation.evaluate().agents["b"]["loss"], abs=1e-5
        )


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("several", [False, True])
def test_class_weights_of_a_window_are_relative_to_all_its_targets(several: bool, backend: Chosen) -> None:
    """The class 1 is at the end of each sequence alone: relative to a step's targets no weight has an effect."""
    numbers = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 5, 3, generator=numbers), torch.zeros(8, 5, dtype=torch.long)
    y[:, -1] = 1
    data = {"x": list(x), "y": list(y)}
    env = antiphon.envs.from_sequences(**data, test=data, validation=data, training_only=["y"])
    goal: Any = {"kind": "classification", "target": "y", "weight": [1.0, 9.0]}
    net = nn.Linear(3, 4 if several else 2)
    goal = [goal, {**goal, "scale": 0.5}] if several else {**goal, "reduction": "mean"}
    agent = {"observes": ["x"], "network": net, "objective": goal, "clock": {"unroll": "episode"}}
    logits, weight = net(x).double().reshape(40, -1, 2), torch.tensor([1.0, 9.0]).double()
    mean: Any = sum(
        factor * cross_entropy(logits[:, i], y.flatten(), weight)
        for i, factor in zip(range(logits.shape[1]), (1.0, 0.5), strict=False)
    )
    factor = 5 if several else 1  # the losses of a window are summed over its ticks
    right = torch.autograd.grad(factor * mean, net.bias)[0]
    sgd = {"kind": "sgd", "lr": 1.0}
    scenario = scenario_of({"a": agent}, env=env, batch=8, optimiser=sgd)
    with Simulation(scenario, backend=backend) as simulation:
        assert simulation.evaluate().agents["a"]["loss"] == pytest.approx(mean.item(), abs=1e-6)
        simulation.run(steps=5, progress=False)
        after = simulation.agents["a"].parameters["module.bias"]
        torch.testing.assert_close(net.bias - after, right.float(), atol=1e-6, rtol=0)


def test_the_logged_loss_with_class_weights_is_relative_to_all_targets_between_entries() -> None:
    """Windows of one step; the heavy class is in one of the four alone."""
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0] * 7 + [1])
    net, weight = nn.Linear(3, 2), torch.tensor([1.0, 9.0])
    data = {"x": x, "y": y}
    env = antiphon.envs.from_tensors(**data, test=data, validation=data, training_only=["y"])
    goal = {"kind": "classification", "target": "y", "weight": [1.0, 9.0]}
    agent = {"observes": ["x"], "network": net, "objective": goal}
    sgd = {"kind": "sgd", "lr": 1e-12}
    with Simulation(scenario_of({"a": agent}, env=env, batch=2, optimiser=sgd)) as simulation:
        for _ in range(4):
            simulation.step()
        found = simulation.running.train_means.means()["a"]["loss"]
    assert found == pytest.approx(cross_entropy(net(x), y, weight).item(), abs=1e-6)


def test_class_weights_of_a_stack_are_each_agents_own() -> None:
    goal = {**CLASSIFY, "weight": [0.1 * (1 + label) for label in range(10)], "label_smoothing": 0.1}
    agent = {"observes": ["image"], "objective": goal}
    scenario = scenario_of({"a": agent, "b": agent})
    losses = []
    for stacked in (True, False):
        with Simulation(scenario, dtype=torch.float64, stacked=stacked) as simulation:
            losses.append([simulation.step()["losses"] for _ in range(2)])
    for one, other in zip(*losses, strict=True):
        assert {name: float(loss) for name, loss in one.items()} == pytest.approx(
            {name: float(loss) for name, loss in other.items()}, abs=1e-12
        )


def mixed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Losses of samples that depend on the others in the batch."""
    return cross_entropy(output, target, reduction="none") * (1 + output.square().mean())


def test_a_loss_is_called_for_each_agent_of_a_stack_unless_its_rows_are_independent() -> None:
    agent = {"observes": ["image"], "objective": {"kind": mixed, "target": "label"}}
    scenario, rows = scenario_of({"a": agent, "b": agent}, batch=8), []

    def apart(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        rows.append(len(output))
        return cross_entropy(output, target, reduction="none")

    losses = []
    for stacked in (True, False):
        with Simulation(scenario, dtype=torch.float64, stacked=stacked) as simulation:
            losses.append([float(loss) for _ in range(3) for loss in simulation.step()["losses"].values()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    for independent, expected in ((False, [8, 8]), (True, [16])):
        apart.stacked = independent  # type: ignore[attr-defined]
        agent["objective"] = {"kind": apart, "target": "label"}
        with Simulation(scenario_of({"a": agent, "b": agent}, batch=8)) as simulation:
            rows.clear()
            simulation.step()
        assert rows == expected


def squared_hinge(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    sign = 2.0 * torch.nn.functional.one_hot(target, 4) - 1
    return (1 - sign * output).clamp(min=0).square().sum(1)


CRITERIA: list[tuple[dict[str, Any], Any]] = [
    ({"weight": WEIGHT}, nn.CrossEntropyLoss(torch.tensor(WEIGHT))),
    ({"label_smoothing": 0.3}, nn.CrossEntropyLoss(label_smoothing=0.3)),
    ({"kind": squared_hinge}, lambda output, y: squared_hinge(output, y).mean()),
]


@pytest.mark.parametrize(("how", "loss"), CRITERIA, ids=["weight", "smoothing", "own loss"])
@pytest.mark.parametrize("kind", ["local", "sobolev_label"])
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_a_predictor_of_a_target_has_the_criterion_of_the_objective(
    how: dict[str, Any], loss: Any, kind: str, backend: Chosen
) -> None:
    """One step from zeros: the bias of the local model has the gradient of the criterion."""
    numbers = torch.Generator().manual_seed(1)
    y = torch.randint(4, (16,), generator=numbers)
    data = {"x": torch.randn(16, 5, generator=numbers), "y": y}
    env = antiphon.envs.from_tensors(**data, test=data, validation=data, training_only=["y"])
    agents = {
        "a": {"observes": ["x"]},
        "b": {"objective": {"kind": "classification", "target": "y", **how}},
    }
    gradient = {"kind": kind, "target": "y", "optimiser": {"kind": "sgd", "lr": 1.0}}
    channel = {"from": "a", "to": "b", "size": 6, "gradient": gradient}
    output = torch.zeros(16, 4, requires_grad=True)
    right = torch.autograd.grad(loss(output, y), output)[0].sum(0)
    with Simulation(
        scenario_of(agents, channels=[channel], env=env, batch=16), backend=backend
    ) as simulation:
        simulation.run(1, progress=False)
        predictor = simulation.channels["a->b"].synthetic_gradient
        assert predictor is not None
        torch.testing.assert_close(predictor.parameters["last.bias"], -right, atol=1e-6, rtol=0)


# --- what losses, schedules and gradients keep between calls -------------------------------------------------


class WithBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        losses = (output - target).square().mean(1)
        self.mean.mul_(0.9).add_(0.1 * losses.detach().mean())
        return losses / (1 + self.mean)


def test_what_a_predictors_loss_keeps_is_moved_once_a_step_and_saved(tmp_path: Path) -> None:
    """Predictions and evaluations move nothing; after one step from zeros the mean is a tenth of the mean square."""
    y = torch.arange(8.0).unsqueeze(1)
    data = {"x": torch.randn(8, 5), "y": y}
    env = antiphon.envs.from_tensors(**data, test=data, validation=data, training_only=["y"])
    agents = {"a": {"observes": ["x"]}, "b": {"objective": {"kind": WithBuffer(), "target": "y"}}}
    gradient = {"kind": "local", "target": "y", "optimiser": {"kind": "sgd", "lr": 0.01}}
    channel = {"from": "a", "to": "b", "size": 6, "gradient": gradient}
    scenario = scenario_of(agents, channels=[channel], env=env, batch=8)

    def kept(simulation: Simulation) -> float:
        predictor = simulation.running.system.channels["a->b"].synthetic_gradient.model
        assert predictor is not None
        return predictor.buffers["criterion.mean"].item()

    with Simulation(scenario) as simulation:
        simulation.run(1, progress=False)
        assert kept(simulation) == pytest.approx(0.1 * y.square().mean().item())
        simulation.evaluate()
        simulation.save(tmp_path / "saved")
        simulation.run(1, progress=False)
        after = kept(simulation)
    with Simulation.load(tmp_path / "saved", scenario=scenario) as resumed:
        resumed.run(1, progress=False)
        assert kept(resumed) == after
