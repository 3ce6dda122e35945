"""Errors of users' objects within a run: one line that names the agent, the object and the step; and layers that once failed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.errors import RunError
from tests.engine.numbers import one_line
from tests.reference.backend import reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
_GOAL = {"kind": "classification", "target": "label"}


@pytest.fixture(scope="module")
def env() -> Any:
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # imports torch's compiler, which no test shall pay for
    random = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=random)
    return antiphon.envs.from_tensors(x=x, label=torch.randint(3, (60,), generator=random))


class Keeps(nn.Module):
    """A network that adds its last output, with its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(6, 3), None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        last, self.last = self.last, y
        return y if last is None or len(last) != len(y) else y + last


class KeepsOfParameters(nn.Module):
    """A network that uses at a call what it has computed of its parameters at the one before."""

    def __init__(self, inputs: int = 6, outputs: int = 3) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(inputs, outputs), torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        last, self.last = self.last, self.layer.weight.square().sum()
        found: Tensor = self.layer(x) * (1 + last)
        return found


def _accumulating() -> nn.Linear:
    layer = nn.Linear(6, 3)
    layer.bias.register_post_accumulate_grad_hook(lambda p: p.grad.clip_by_norm())
    return layer


def _clipping() -> nn.Linear:
    layer = nn.Linear(6, 3)
    layer.bias.register_hook(lambda g: g.clip_by_norm())
    return layer


class Cut(torch.autograd.Function):
    """A function whose gradient has another shape than its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0][:, :1]


class Cuts(nn.Module):
    """A layer that uses it."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = Cut.apply(x)
        return found


def _own(env: Any, *, network: Any = None, objective: Any = None) -> Any:
    mind = {"observes": ["x"], "network": network, "objective": objective or _GOAL}
    training = {"batch": 8}
    mind = {key: value for key, value in mind.items() if value is not None}
    return antiphon.Scenario(scenario="own", env=env, agents={"mind": mind}, training=training)


_SHORT = nn.CrossEntropyLoss(reduction="none", weight=torch.ones(2))
_FAILING: dict[str, tuple[Any, str]] = {
    "a loss of torch": (
        lambda env: _own(env, objective={"kind": _SHORT, "target": "label"}),
        r"^step 1: agents\.mind\.objective: CrossEntropyLoss failed: RuntimeError: weight tensor should be",
    ),
    "a hook of a parameter": (
        lambda env: _own(env, network=_accumulating()),
        r"^step 1: agents\.mind: _accumulating\S+ failed at test_failures\.py:\d+: AttributeError: ",
    ),
    "a hook of a gradient": (
        lambda env: _own(env, network=_clipping()),
        r"^step 1: gradients of mind: _clipping\S+ failed at test_failures\.py:\d+: AttributeError: ",
    ),
    "a backward pass of one's own": (
        lambda env: _own(env, network=nn.Sequential(nn.Linear(6, 3), Cuts())),
        r"^step 1: gradients of mind: the backward pass failed: RuntimeError: Function \w+ returned an invalid",
    ),
    "a graph that is kept": (
        lambda env: _own(env, network=Keeps()),
        r"^step 2: a network \(mind\) keeps a tensor with its graph .*; keep its detach\(\)",
    ),
}


@pytest.mark.parametrize("case", _FAILING)
def test_an_object_that_fails_in_a_run_is_named_with_its_agent(env: Any, case: str) -> None:
    scenario, line = _FAILING[case]
    with (
        antiphon.Simulation(scenario(env)) as simulation,
        one_line(line, error=RunError),
    ):
        simulation.run(steps=3, progress=False)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd", torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("backend", ["cohort", "native", reference])
def test_a_graph_of_before_a_step_is_refused_with_every_optimiser(env: Any, backend: Any, kind: Any) -> None:
    scenario = _own(env, network=KeepsOfParameters).with_training(optimiser={"kind": kind, "lr": 0.01})
    line = r"^step 2: a network \(mind\) .* or keeps a tensor with its graph .*; compute new tensors .*, keep its detach"
    with antiphon.Simulation(scenario, backend=backend) as run, one_line(line, error=RunError):
        run.run(steps=3, progress=False)


def test_an_object_that_fails_in_an_evaluation_is_named_with_its_agent(env: Any) -> None:
    class Once(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if self.training or len(x) < 3 else x[:, 1:])

    with antiphon.Simulation(_own(env, network=Once(6, 3))) as simulation:
        simulation.run(steps=1, progress=False)
        with one_line(r"^agents\.mind: \S+Once\.forward failed at test_failures\.py:\d+: ", error=RunError):
            simulation.evaluate("train")
