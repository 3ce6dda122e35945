"""Threads of the caller: a run depends on its scenario and seed alone, and takes no random numbers from anyone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import random, sample, seed
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import antiphon
from tests.engine.numbers import one_line


class Seeding(nn.Linear):
    """Adds the same noise at every call, of torch's own generator."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return super().forward(x) + torch.rand(10)


class DrawsLater(nn.Linear):
    """Draws for some batches only, not for the zeros that it is tried with."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y + torch.rand_like(y) if x.abs().sum() > 0 else y


def dropping(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 12), nn.Dropout(0.5), nn.ReLU(), nn.Linear(12, outputs))


NETWORKS: dict[str, Callable[[], Any]] = {
    "dropout": lambda: dropping,
    "none": lambda: lambda inputs, outputs: nn.Linear(inputs, outputs),
    "seeds itself": lambda: lambda inputs, outputs: Seeding(inputs, outputs),
    "late": lambda: lambda inputs, outputs: DrawsLater(inputs, outputs),
}


def made(network: Any) -> antiphon.Simulation:
    goal = {"kind": "classification", "target": "label"}
    mind: dict[str, Any] = {"observes": ["image"], "network": network, "objective": goal}
    env: Any = {"id": "antiphon/Digits-v0"}
    training: Any = {"batch": 8, "steps": 12}
    return antiphon.Simulation(
        antiphon.Scenario(scenario="threads", env=env, agents={"mind": mind}, training=training)
    )


def trained(simulation: antiphon.Simulation) -> list[Tensor]:
    simulation.run(progress=False)
    return [value.clone() for value in simulation.agents["mind"].parameters.values()]  # type: ignore[misc]


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """What a first run loads is loaded before the tests."""
    trained(made(dropping))


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", NETWORKS)
def test_runs_in_threads_are_those_of_one_after_another(name: str) -> None:
    network = NETWORKS[name]()
    alone = trained(made(network))
    found: list[list[Tensor]] = []
    threads = [threading.Thread(target=lambda: found.append(trained(made(network)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert all(torch.equal(a, b) for one in found for a, b in zip(alone, one, strict=True))


@pytest.mark.parametrize("name", ["dropout", "none"])
def test_another_thread_draws_its_own_numbers_and_changes_none_of_a_run(name: str) -> None:
    """It seeds once and draws all the time, while a run takes steps."""
    network = NETWORKS[name]()
    alone = trained(made(network))
    drawn: list[Tensor] = []
    begun, ended = threading.Event(), threading.Event()

    def draw() -> None:
        torch.manual_seed(5)
        while not ended.is_set():
            drawn.append(torch.rand(4))
            begun.set()

    simulation = made(network)
    thread = threading.Thread(target=draw)
    thread.start()
    begun.wait()
    beside = trained(simulation)
    ended.set()
    thread.join()
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
    generator = torch.Generator().manual_seed(5)
    assert all(torch.equal(one, torch.rand(4, generator=generator)) for one in drawn)


def test_a_module_that_seeds_torch_itself_has_the_numbers_of_its_seed_and_the_caller_keeps_his() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trained(made(NETWORKS["seeds itself"]()))
    trained(made(NETWORKS["late"]()))
    assert torch.equal(torch.rand(3), expected)


# --- the caller's generators: what users' code draws in a run is the run's ----------------------------------------

DRAWN: dict[str, Callable[[int], Tensor]] = {
    "torch": torch.rand,
    "numpy": lambda count: torch.tensor(np.random.rand(count), dtype=torch.float32),
    "python": lambda count: torch.tensor([random() for _ in range(count)]),
}


class Late:
    """Numbers that are drawn from a call on only: before it, ones."""

    drawing = False

    def __call__(self, count: int) -> Tensor:
        return DRAWN["numpy"](count) if self.drawing else torch.ones(count)


LATE = Late()
LOGGED: list[float] = []


def logged(count: int) -> Tensor:
    """Numbers of numpy, of which the first is noted."""
    drawn = DRAWN["numpy"](count)
    LOGGED.append(float(drawn[0]))
    return drawn


SOURCES: dict[str, Callable[[int], Tensor]] = {**DRAWN, "late": LATE, "logged": logged}
SHUFFLED: dict[str, Callable[[int], Any]] = {
    "torch": torch.randperm,
    "numpy": np.random.permutation,
    "python": lambda count: sample(range(count), count),
}


class Noise(torch.autograd.Function):
    """Adds what is drawn to its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str) -> Tensor:
        ctx.kind = kind
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] + 0.1 * SOURCES[ctx.kind](1), None


class Noisy(nn.Module):
    """A linear map with noise where it is asked for: initially, forward, backward, or on gradients."""

    def __init__(self, inputs: int, outputs: int, where: str, kind: str) -> None:
        super().__init__()
        self.map, self.where, self.kind = nn.Linear(inputs, outputs), where, kind
        weight = self.map.weight
        if where == "factory":
            weight.data.mul_(SOURCES[kind](1))
        if where == "hook":
            weight.register_hook(lambda gradient: gradient + 0.1 * SOURCES[kind](1))
        if where == "last hook":
            weight.register_post_accumulate_grad_hook(partial(self._changed, kind))

    @staticmethod
    def _changed(kind: str, p: Tensor) -> None:
        assert p.grad is not None
        p.grad.add_(0.1 * SOURCES[kind](1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.map(x)
        if self.where == "forward" and self.training:
            return y * SOURCES[self.kind](1)
        return Noise.apply(y, self.kind) if self.where == "backward" else y  # type: ignore[no-any-return, no-untyped-call]


class Langevin(torch.optim.Optimizer):
    """Adds noise to each step."""

    def __init__(self, parameters: Any, lr: float, drawn: str) -> None:
        super().__init__(parameters, {"lr": lr})
        self.drawn = drawn

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * (p.grad + 0.1 * SOURCES[self.drawn](1)))


class Masked(nn.Linear):
    """A predictor with a loss of random components."""

    def __init__(self, inputs: int, outputs: int, drawn: str) -> None:
        super().__init__(inputs, outputs)
        self.drawn = drawn

    def loss(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return ((prediction - truth) * SOURCES[self.drawn](prediction.shape[1])).square().sum(1)


def contrasted(kind: str, output: Tensor, target: Tensor) -> Tensor:
    """A loss of each sample and of another one, as it comes."""
    losses = nn.functional.cross_entropy(output, target, reduction="none")
    if kind not in SHUFFLED:
        return losses * SOURCES[kind](1)
    others = torch.as_tensor(SHUFFLED[kind](len(target)))
    return losses + nn.functional.cross_entropy(output, target[others], reduction="none")


def drawing(where: str, kind: str, others: tuple[str, ...] = ()) -> antiphon.Scenario:
    """Agents of which each draws: in its network, loss or optimiser, or where the first one's gradient is predicted."""
    goal: Any = {"kind": "classification", "target": "label"}
    agent: dict[str, Any] = {"clock": {"unroll": 2}, "network": partial(Noisy, where=where, kind=kind)}
    if where == "loss":
        goal["kind"] = partial(contrasted, kind)
    if where == "optimiser":
        agent["optimiser"] = {"kind": partial(Langevin, drawn=kind), "lr": 0.05}
    agents = {name: {**agent, "observes": ["image"], "objective": goal} for name in ("mind", *others)}
    channels: list[Any] = []
    if where == "predictor":
        agents["eye"] = {"observes": ["image"], "clock": {"unroll": 2}}
        gradient = {"kind": partial(Masked, drawn=kind), "context": ["label"]}
        channels = [{"from": "eye", "to": "mind", "size": 3, "gradient": gradient}]
    return antiphon.Scenario(
        scenario="drawing",
        env={"id": "antiphon/Digits-v0"},
        agents=agents,
        channels=channels,
        training={"batch": 8, "steps": 9},
    )


def numbers_of(simulation: antiphon.Simulation) -> list[Tensor]:
    agents = [agent for name, agent in simulation.agents.items() if name in ("mind", "eye")]
    return [value.clone() for agent in agents for value in agent.parameters.values()]


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize(
    "where",
    ["factory", "forward", "backward", "hook", "last hook", "loss", "optimiser", "predictor"],
)
def test_what_users_code_draws_is_of_the_runs_seed(where: str, kind: str, tmp_path: Path) -> None:
    scenario = drawing(where, kind)

    def run(steps: int, caller: int) -> antiphon.Simulation:
        seed(caller)
        np.random.seed(caller)
        torch.manual_seed(caller)
        simulation = antiphon.Simulation(scenario, seed=4)
        simulation.run(steps=steps, progress=False)
        return simulation

    expected = numbers_of(run(9, 0))
    half = run(5, 1)
    drawn = [DRAWN[name](2) for name in DRAWN]
    seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert all(torch.equal(one, DRAWN[name](2)) for one, name in zip(drawn, DRAWN, strict=True)), "his own"
    twin = half.fork()
    half.save(tmp_path / "checkpoint")
    loaded = antiphon.Simulation.load(tmp_path / "checkpoint", scenario=scenario)
    half.evaluate("test")
    for simulation in (half, twin, loaded):
        simulation.run(steps=4, progress=False)
        assert all(torch.equal(a, b) for a, b in zip(numbers_of(simulation), expected, strict=True))
    other = antiphon.Simulation(scenario, seed=5)
    other.run(steps=9, progress=False)
    assert not torch.equal(numbers_of(other)[0], expected[0])


@pytest.mark.parametrize("where", ["forward", "backward", "loss"])
def test_what_an_agent_draws_is_its_own_beside_another(where: str) -> None:
    found = []
    for others in ((), ("other",)):
        with antiphon.Simulation(drawing(where, "numpy", others)) as simulation:
            simulation.run(steps=9, progress=False)
            found.append(numbers_of(simulation))
    assert all(torch.allclose(a, b, 0, 1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("kind", DRAWN)
def test_a_layer_that_draws_is_split(kind: str) -> None:
    model = nn.Sequential(nn.Flatten(), Noisy(64, 8, "forward", kind), nn.ReLU(), nn.Linear(8, 10))
    scenario = antiphon.split(model, at=[2], env={"id": "antiphon/Digits-v0"}, gradient="local")
    assert list(scenario.agents) == ["part0", "part1"]


@pytest.fixture
def _late() -> Iterator[None]:
    LATE.drawing = False
    LOGGED.clear()
    yield
    LATE.drawing = False


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize("where", ["forward", "hook", "last hook", "loss", "optimiser", "predictor"])
def test_what_users_code_draws_late_is_of_the_runs_seed(where: str, tmp_path: Path) -> None:
    scenario, found = drawing(where, "late"), []
    for caller in (0, 1):
        LATE.drawing = False
        simulation = antiphon.Simulation(scenario, seed=4)
        simulation.run(steps=33, progress=False)
        LATE.drawing = True
        np.random.seed(caller)
        simulation.run(steps=2, progress=False)
        simulation.save(tmp_path / str(caller))
        simulation.run(steps=2, progress=False)
        found.append(numbers_of(simulation))
        after = np.random.rand()
        np.random.seed(caller)
        assert np.random.rand() == after, "the caller's own"
    loaded = antiphon.Simulation.load(tmp_path / "0", scenario=scenario)
    loaded.run(steps=2, progress=False)
    for numbers in (found[1], numbers_of(loaded)):
        assert all(torch.equal(a, b) for a, b in zip(numbers, found[0], strict=True))


@pytest.mark.usefixtures("_late")
def test_what_a_function_first_draws_late_on_the_way_back_is_refused_and_the_callers_numbers_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside other threads, which may draw too, that is not known; the test runner may have some."""
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])
    simulation = antiphon.Simulation(drawing("backward", "late"), seed=4)
    simulation.run(steps=3, progress=False)
    LATE.drawing = True
    np.random.seed(1)
    with one_line(
        "^agents 'mind': a module of theirs draws random numbers on the way back, .*; draw in every"
    ):
        simulation.run(steps=2, progress=False)
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_what_a_loss_draws_is_its_own_beside_other_seeds(kind: str) -> None:
    found = []
    for number in (2, 3):
        with antiphon.Simulation(drawing("loss", kind), seed=number) as simulation:
            simulation.run(steps=5, progress=False)
            found.append(numbers_of(simulation))
    with antiphon.Population(drawing("loss", kind), [2, 3]) as population:
        population.run(steps=5)
        for member, numbers in zip(population.simulations, found, strict=True):
            assert all(
                torch.allclose(a, b, 0, 1e-6) for a, b in zip(numbers_of(member), numbers, strict=True)
            )


@pytest.mark.usefixtures("_late")
def test_what_a_loss_draws_late_is_its_own_in_a_stack() -> None:
    """Agents of built-in networks, whose losses are computed at once until one draws."""
    found = []
    for others in ((), ("first", "zero")):
        goal = {"kind": partial(contrasted, "late"), "target": "label"}
        agents: Any = {name: {"observes": ["image"], "objective": goal} for name in (*others, "mind")}
        scenario = antiphon.Scenario(
            scenario="late",
            env={"id": "antiphon/Digits-v0"},
            agents=agents,
            training={"batch": 8, "steps": 9},
        )
        LATE.drawing = False
        with antiphon.Simulation(scenario, seed=4) as simulation:
            LATE.drawing = True
            simulation.run(steps=5, progress=False)
            found.append(numbers_of(simulation))
    assert all(torch.allclose(a, b, 0, 1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.usefixtures("_late")
def test_terms_of_one_target_and_losses_within_an_update_draw_different_numbers() -> None:
    goal = {"kind": partial(contrasted, "logged"), "target": "label"}
    agents: Any = {"mind": {"observes": ["image"], "objective": [goal, goal]}}
    env: Any = {"id": "antiphon/Digits-v0"}
    terms = antiphon.Scenario(scenario="terms", env=env, agents=agents, training={"batch": 8, "steps": 9})
    for scenario in (terms, drawing("predictor", "logged"), drawing("backward", "logged")):
        with antiphon.Simulation(scenario, seed=4) as simulation:
            LOGGED.clear()
            simulation.run(steps=8, progress=False)
        assert len(LOGGED) >= 4
        assert len({*LOGGED}) == len(LOGGED)


def drawn_once(scenario: antiphon.Scenario) -> list[float]:
    """Return the numbers that a run logs: they are all different, and the same whatever the caller's are."""
    found = []
    for caller in (0, 1):
        np.random.seed(caller)
        with antiphon.Simulation(scenario, seed=4) as simulation:
            LOGGED.clear()
            simulation.run(steps=8, progress=False)
        found.append([*LOGGED])
    assert found[0] == found[1]
    assert len({*found[0]}) == len(found[0])
    return found[0]


@pytest.mark.usefixtures("_late")
@pytest.mark.parametrize("where", ["backward", "last hook"])
def test_each_pass_over_a_window_draws_its_own_numbers_of_the_runs_seed(where: str) -> None:
    agent: Any = {
        "acts": True,
        "observes": ["observation"],
        "objective": {"kind": "ppo", "epochs": 3, "minibatches": 2},
        "clock": {"unroll": 4},
        "network": partial(Noisy, where=where, kind="logged"),
    }
    env: Any = {"id": "gymnasium/CartPole-v1"}
    scenario = antiphon.Scenario(
        scenario="passes", env=env, agents={"mind": agent}, training={"batch": 4, "steps": 90}
    )
    assert len(drawn_once(scenario)) >= 10


def shaken(output: Tensor, target: Tensor) -> Tensor:
    """A loss with noise on its way back."""
    noisy: Tensor = Noise.apply(output, "logged")  # type: ignore[no-untyped-call]
    return nn.functional.cross_entropy(noisy, target, reduction="none")


@pytest.mark.usefixtures("_late")
def test_returns_over_several_windows_draw_their_own_numbers_of_the_runs_seed() -> None:
    """The way back of each window is gone several times, once for what it is learned from and for each return."""
    agent: Any = {
        "observes": ["image"],
        "objective": {"kind": shaken, "target": "label"},
        "network": {"kind": "gru", "size": 4},
        "clock": {"unroll": 2},
    }
    state: Any = {
        "from": "mind",
        "to": "mind",
        "key": "state",
        "gradient": {"kind": "linear", "trace": 0.5, "horizon": 2},
    }
    scenario = antiphon.Scenario(
        scenario="returns",
        env={"id": "antiphon/Digits-v0"},
        agents={"mind": agent},
        channels=[state],
        training={"batch": 4, "steps": 90},
    )
    assert len(drawn_once(scenario)) > 8
