"""Objects and names of a user's in every place that takes one: both backends agree on them, and runs go on to the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import Simulation
from antiphon.base.errors import ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.builders import LABEL, Document, Play, ring
from tests.contracts.twins import hold, made
from tests.engine.numbers import assert_same_state
from tests.kit import seams
from tests.kit.examined import planned


class Focal:
    """Cross-entropy that counts easy samples less (Lin et al. 2017)."""

    metric = "sure"

    def __init__(self, gamma: float = 2.0) -> None:
        self.gamma = gamma

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(output, target, reduction="none")
        return (1 - torch.exp(-losses)) ** self.gamma * losses

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the probability of the target."""
        return output.softmax(1).gather(1, target.unsqueeze(1)).squeeze(1)


def hinge(output: Tensor, target: Tensor) -> Tensor:
    """A function as it is."""
    return F.multi_margin_loss(output, target, reduction="none")


def two_layers(inputs: int, outputs: int, width: int = 5) -> nn.Module:
    """A predictor."""
    return nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, outputs))


def normed(inputs: int, outputs: int) -> nn.Module:
    """A predictor with running statistics."""
    return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, outputs))


def goal(kind: Any, **keys: Any) -> Document:
    return {"objective": {"kind": kind, "target": "label", **keys}}


def predicted(kind: Any, **keys: Any) -> Document:
    return {"gradient": {"kind": kind, "context": ["label", "x"], **keys}}


OBJECTIVES = {
    "a function": hinge,
    "an object": Focal(1.5),
    "a class": Focal,
    "a module of torch": nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
    "a module with buffers": nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]), reduction="none"),
}


GRADIENTS: dict[str, Document] = {
    "a factory": predicted(two_layers),
    "a factory with options": predicted(two_layers, width=3),
    "a module": predicted(nn.Linear(4 + 3 + 4, 4)),
    "with statistics": predicted(normed),
}


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023), as one writes an optimiser of torch's."""

    def __init__(self, params: Any, lr: float = 1e-3, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["mean"], state["count"] = torch.zeros_like(p), 0
                state["count"] += 1
                state["mean"].lerp_(p.grad, 1 - group["beta"])
                p.add_(state["mean"].sign(), alpha=-group["lr"])


def slower_first(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """A factory with two groups of parameters."""
    return torch.optim.SGD([{"params": parameters[:1], "lr": lr / 10}, {"params": parameters[1:]}], lr=lr)


def inverse_root(step: int) -> float:
    return 1 / (1 + step) ** 0.5


LIBRARY = ("RMSprop", "Adagrad", "Adadelta", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop")
SCHEDULED: Document = {"kind": "RMSprop", "lr": 1e-2, "schedule": {"kind": inverse_root}}
OPTIMISERS: dict[str, Document] = {
    **{name: {"kind": name, "lr": 1e-2} for name in LIBRARY},
    "nesterov": {"kind": "SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True},
    "a class": {"kind": Lion, "lr": 1e-3, "beta": 0.8},
    "groups": {"kind": slower_first, "lr": 0.1, "clip": 0.5},
    "scheduled": SCHEDULED,
}


class Branching(nn.Linear):
    """A predictor whose shape of computation depends on its input: vmap refuses it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found if found.sum() > 0 else 2 * found


def contrastive(output: Tensor, target: Tensor) -> Tensor:
    """A loss of samples against the others of their batch."""
    return F.cross_entropy(output @ output.mT, torch.arange(len(output)), reduction="none")


class Leaky(nn.Module):
    """A network with a state of its own."""

    state_size = 5

    def __init__(self, inputs: int, outputs: int, leak: float = 0.5) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(inputs, 5), nn.Linear(5, outputs)
        self.leak = leak

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = (1 - self.leak) * state + self.leak * torch.tanh(self.into(x) + state.roll(1, -1))
        return self.out(state), state


STATE_GRADIENT: Document = {"coupling": "decoupled", "gradient": {"kind": "linear"}}


STATES: dict[str, Document] = {
    "without a channel": {},
    "locked": {"state": {"coupling": "locked"}},
    "with a gradient": {"state": STATE_GRADIENT},
}
OFTEN = Play(share=0.1)
SCENES: dict[str, Document] = {
    **{
        f"objective {key}": ring(agent=goal(kind), env=Play(gaps=0.2, share=0.1))
        for key, kind in OBJECTIVES.items()
    },
    **{f"gradient {key}": ring(channel=keys, env=OFTEN) for key, keys in GRADIENTS.items()},
    **{f"optimiser {key}": ring(optimiser=keys, env=OFTEN) for key, keys in OPTIMISERS.items()},
    **{
        f"state {key}": ring(
            agent={"network": Leaky, "clock": {"unroll": 3}},
            state=keys.get("state"),
            env=Play(lengths=(5, 7)),
        )
        for key, keys in STATES.items()
    },
    "objective contrastive": ring(agent=goal(contrastive)),
    "objective contrastive of several": ring(
        agent={
            "objective": [LABEL, {"kind": contrastive, "target": "aim", "scale": 0.5}],
            "clock": {"unroll": 2},
        },
        env=OFTEN,
    ),
    "alone branching": ring(channel=predicted(Branching)),
}
ALONE = {
    "objective a module with buffers": "its objective has buffers",
    "alone branching": "its synthetic gradient: vmap fails",
}
"""Why some of them are computed one after another."""
FURTHER = dict.fromkeys(("objective an object",), pytest.mark.long) | {
    f"optimiser {name}": pytest.mark.nightly if i else pytest.mark.long for i, name in enumerate(LIBRARY)
}
"""Further cases of what others try."""


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=FURTHER.get(n, ())) for n in SCENES],
)
def test_backends_agree_and_what_can_be_stacked_is(name: str) -> None:
    alone = planned(Scenario.model_validate(SCENES[name])).alone
    reasons = {reason[: len(ALONE.get(name, ""))]: names for reason, names in alone.items()}
    ends = "channels" if "gradient" in ALONE.get(name, "") else "agents"
    everyone = [f"{c['from']}->{c['to']}" if ends == "channels" else c for c in SCENES[name][ends]]
    assert reasons == ({ALONE[name]: everyone} if name in ALONE else {})
    hold(SCENES[name], steps=4)


def test_a_schedule_is_followed_at_every_step_and_by_predictors_too() -> None:
    rates: list[float] = []

    class Seen(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step()

    scene = ring(count=1, channel={"coupling": "detached"}, optimiser={**SCHEDULED, "kind": Seen, "lr": 0.5})
    with made(scene, "cohort") as simulation:
        simulation.run(steps=4)
    assert rates == [0.5 * inverse_root(step) for step in range(4)]


def hinge_of(margin: float = 1.0) -> Any:
    """A factory of objectives, as an entry point of a package names one."""
    return partial(F.multi_margin_loss, margin=margin, reduction="none")


# --- names -----------------------------------------------------------------------------------------------


DOCUMENT = """
scenario: named
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image], network: {kind: leaky_of_mine, leak: 0.25}, clock: {unroll: 2}}
  b: {observes: [image], network: {kind: leaky_of_mine, leak: 0.25}, clock: {unroll: 2}}
  c:
    network: {hidden: [8], norm: none}
    objective: {kind: focal, target: label, gamma: 1.5}
    optimiser: {kind: lion, lr: 0.001, beta: 0.8, schedule: {kind: falling, half: 40}}
channels:
  - {from: a, to: c, size: 4, gradient: {kind: two_layers, context: [label], width: 5}}
  - {from: b, to: c, size: 4, gradient: {kind: two_layers, context: [label], width: 5}}
  - {from: c, to: a, size: 4, coupling: unlocked, link: {delay: 1}, input: {kind: two_layers_input, context: [image]}}
training: {batch: 8, steps: 20, optimiser: {kind: NAdam, lr: 0.002}}
"""


class Falling:
    """A schedule that a factory makes."""

    def __init__(self, half: int = 100) -> None:
        self.half = half

    def __call__(self, step: int) -> float:
        return 0.5 ** (step / self.half)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names for one test."""
    monkeypatch.setattr(seams.REGISTERED, {point: {} for point in resolve_name(seams.REGISTERED)})
    for point, name, factory in (
        ("objective", "focal", Focal),
        ("gradient", "two_layers", two_layers),
        ("input", "two_layers_input", two_layers),
        ("optimiser", "lion", Lion),
        ("schedule", "falling", Falling),
        ("network", "leaky_of_mine", Leaky),
    ):
        antiphon.register(point, name, factory)
    yield
    resolve_name(seams.INSTALLED).cache_clear()


@pytest.mark.long
def test_a_document_of_registered_names_is_run_written_as_it_was_read_and_its_checkpoint_loaded(
    tmp_path: Path,
) -> None:
    scenario = Scenario.from_yaml(DOCUMENT)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    hold(scenario, steps=4)
    with Simulation(scenario) as whole:
        whole.run(steps=3)
        whole.save(tmp_path / "saved")
        whole.run(steps=3)
        with Simulation.load(tmp_path / "saved") as rest:
            rest.run(steps=3)
            assert_same_state(whole, rest)
    del resolve_name(seams.REGISTERED)["objective"]["focal"]
    with pytest.raises(
        ScenarioError, match=r"agents.c.objective.kind: unknown kind 'focal'; .* import that \(comm"
    ):
        Simulation.load(tmp_path / "saved")


def test_names_of_installed_packages_are_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        found = {
            "antiphon.objectives": [
                "hinge = tests.base.test_extensions:hinge_of",
                "gone = tests.nowhere:Gone",
            ]
        }
        return [EntryPoint(*map(str.strip, line.split("=")), group) for line in found.get(group, [])]

    resolve_name(seams.INSTALLED).cache_clear()
    monkeypatch.setattr(seams.ENTRY_POINTS, entries)
    scenario = Scenario.from_yaml(
        DOCUMENT.replace("kind: focal", "kind: hinge").replace("gamma: 1.5", "margin: 0.5")
    )
    hold(scenario, steps=3)
    with pytest.raises(ModuleNotFoundError, match=r"tests\.nowhere"):
        Simulation(Scenario.from_yaml(DOCUMENT.replace("kind: focal", "kind: gone")))
