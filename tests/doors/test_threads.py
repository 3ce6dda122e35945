"""Threads of the caller: a run depends on its scenario and seed alone, and takes no random numbers from anyone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon


class Seeding(nn.Linear):
    """Adds the same noise at every call, of torch's own generator."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return super().forward(x) + torch.rand(10)


class Late(nn.Linear):
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
    "late": lambda: lambda inputs, outputs: Late(inputs, outputs),
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
