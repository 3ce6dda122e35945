"""The door of optimisers: what a user hands over keeps the meaning that it has in a plain loop."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import antiphon

STEPS = 16
DECAYING = {"lr": 0.05, "weight_decay": 0.1}
SETTINGS = {
    "sgd": {"lr": 0.05, "momentum": 0.9},
    "adam": {"lr": 0.01},
    "adamw": DECAYING,
    "AdamW": DECAYING,
}


class Experts(nn.Module):
    """Each batch goes to one of three experts; `spare` is used by none."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(6, 8) for _ in range(3))
        self.spare = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        expert: Tensor = self.experts[int(x.abs().sum() * 100) % 3](x)
        return expert


@pytest.fixture(scope="module")
def env() -> Any:
    torch.manual_seed(0)
    env = antiphon.envs.from_tensors(x=torch.randn(120, 6), label=torch.randint(3, (120,)))
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    scenario = antiphon.split(model, at=[2], env=env, coupling="locked", batch=8, steps=2)
    with antiphon.Simulation(
        scenario
    ) as run:  # loads the modules of torch that the first of the tests would load
        run.run(progress=False)
    return env


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_a_parameter_without_a_gradient_stays(env: Any, kind: str, backend: str, tmp_path: Path) -> None:
    """Also where the run is saved and goes on."""
    settings = SETTINGS[kind]
    torch.manual_seed(1)
    model = nn.Sequential(Experts(), nn.Tanh(), nn.Linear(8, 3)).double()
    loop = copy.deepcopy(model)
    key = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}.get(kind, kind)
    optimiser = getattr(torch.optim, key)(loop.parameters(), **settings)
    scenario = antiphon.split(
        model, at=[2], env=env, coupling="locked", batch=8, steps=STEPS, optimiser={"kind": kind, **settings}
    )
    run = antiphon.Simulation(scenario, dtype=torch.float64, backend=backend)
    for step in range(STEPS):
        if step == STEPS // 2:
            run = antiphon.Simulation.load(run.save(tmp_path / "half"), scenario=scenario, backend=backend)
        batch = {name: value.clone() for name, value in run.signals.items()}
        run.step()
        optimiser.zero_grad()
        cross_entropy(loop(batch["x"]), batch["label"]).backward()
        optimiser.step()
    for ours, plain in zip(antiphon.join(run).parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["adamw", "AdamW"])
def test_heads_that_nothing_reaches_stay_in_every_way_of_running(env: Any, kind: str) -> None:
    """Messages of detached channels: their heads are parameters without a gradient."""
    goal = {"kind": "classification", "target": "label"}
    network = {"kind": "mlp", "hidden": [5]}
    agents = {
        name: {
            "observes": ["x"],
            "objective": goal,
            "network": network,
            "optimiser": {"kind": kind, **DECAYING},
        }
        for name in "abc"
    }
    channels = [
        {"from": one, "to": other, "size": 4, "coupling": "detached", "link": {"delay": 1}}
        for one, other in ("ab", "bc", "ca")
    ]
    scenario = antiphon.Scenario(
        scenario="heads", env=env, agents=agents, channels=channels, training={"batch": 8, "steps": STEPS}
    )
    moved: dict[str, dict[str, Tensor]] = {}
    for backend in ("reference", "cohort", "native"):
        with antiphon.Simulation(scenario, dtype=torch.float64, backend=backend) as run:
            before = {name: p.clone() for name, p in run.agents["a"].parameters.items()}
            run.run(progress=False)
            after = {name: p.clone() for name, p in run.agents["a"].parameters.items()}
        stayed = [name for name, p in after.items() if torch.equal(p, before[name])]
        assert 0 < len(stayed) < len(after)
        moved[backend] = after
    for backend in ("cohort", "native"):
        for name, p in moved["reference"].items():
            torch.testing.assert_close(moved[backend][name], p, rtol=0, atol=1e-9)


class Falling(torch.optim.Optimizer):
    """SGD whose rate falls as 1 / k; k counts its steps, and `phase` is text in its groups."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "phase": "first"})
        self.k = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.k += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"] / self.k * (1 if group["phase"] == "first" else 0.1))
            group["phase"] = "later"


class Noisy(Falling):
    """One with a generator of its own, which no checkpoint holds."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr)
        self.noise = torch.Generator()


class Averaged(torch.optim.SGD):
    """SGD; `eval()` puts the mean of all weights into the parameters, and `train()` the newest back, rounded."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for p in self.param_groups[0]["params"]:
            kept = self.state[p]
            kept["n"] = kept.get("n", 0) + 1
            kept["mean"] = kept.get("mean", 0) + (p.detach() - kept.get("mean", 0)) / kept["n"]

    def eval(self) -> None:
        for p in self.param_groups[0]["params"]:
            self.state[p]["far"] = p.detach() - self.state[p]["mean"]
            p.data.copy_(self.state[p]["mean"])

    def train(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.data.add_(self.state[p].pop("far", 0))


def scenario_of(env: Any, optimiser: dict[str, Any]) -> antiphon.Scenario:
    agent = {
        "observes": ["x"],
        "network": nn.Linear(6, 3, dtype=torch.float64),
        "objective": {"kind": "classification", "target": "label"},
        "optimiser": optimiser,
    }
    training = {"batch": 8, "steps": STEPS}
    return antiphon.Scenario(scenario="one", env=env, agents={"a": agent}, training=training)


def test_what_an_optimiser_keeps_on_itself_and_text_in_groups_go_on(env: Any, tmp_path: Path) -> None:
    scenario = scenario_of(env, {"kind": Falling, "lr": 0.5})
    first = antiphon.Simulation(scenario)
    first.run(steps=STEPS // 2, progress=False)
    runs = [first.fork(), antiphon.Simulation.load(first.save(tmp_path / "half"), scenario=scenario), first]
    for run in runs:
        run.run(steps=STEPS // 2, progress=False)
    for run in runs[:2]:
        for name, p in run.agents["a"].parameters.items():
            assert torch.equal(p, first.agents["a"].parameters[name])


def test_a_run_whose_optimiser_keeps_a_generator_on_itself_is_not_saved(env: Any, tmp_path: Path) -> None:
    with antiphon.Simulation(scenario_of(env, {"kind": Noisy, "lr": 0.5})) as run:
        run.run(steps=2, progress=False)
        with pytest.raises(
            antiphon.errors.ScenarioError, match=r"agents\.a\.optimiser: Noisy .* self\.noise"
        ):
            run.save(tmp_path / "saved")


def test_evaluations_score_the_weights_of_eval_and_change_no_bit(env: Any) -> None:
    scenario = scenario_of(env, {"kind": Averaged, "lr": 1.0})
    with antiphon.Simulation(scenario, dtype=torch.float64) as run:
        loop = nn.Linear(6, 3, dtype=torch.float64)
        loop.load_state_dict(
            {name.removeprefix("module."): p for name, p in run.agents["a"].parameters.items()}
        )
        optimiser = Averaged(loop.parameters(), lr=1.0)
        for _ in range(STEPS):
            batch = {name: value.clone() for name, value in run.signals.items()}
            run.step()
            optimiser.zero_grad()
            cross_entropy(loop(batch["x"]), batch["label"]).backward()
            optimiser.step()
        before = [p.detach().clone() for p in run.agents["a"].parameters.values()]
        loss = run.evaluate("test").agents["a"]["loss"]
        rows = env.table.splits["test"]
        x, label = (env.table.columns[name][rows] for name in ("x", "label"))
        optimiser.eval()
        assert loss == pytest.approx(cross_entropy(loop(x.double()), label.long()).item(), abs=1e-9)
        for p, old in zip(run.agents["a"].parameters.values(), before, strict=True):
            assert torch.equal(p, old)
