"""The caller's process: what torch's contexts and switches around a call change in it, and it in them: nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.comms import Channel, learn
from tests.reference.backend import reference

Context = Callable[[], AbstractContextManager[object]]
Door = Callable[[], list[Tensor]]
DIGITS = {"id": "antiphon/Digits-v0"}


@contextmanager
def switched(switch: Callable[[Any], object], value: Any, before: Any) -> Iterator[None]:
    switch(value)
    try:
        yield
    finally:
        switch(before)


CONTEXTS: dict[str, Context] = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: torch.device("meta"),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "threads": lambda: switched(torch.set_num_threads, 3, 1),
    "denormals": lambda: switched(torch.set_flush_denormal, True, False),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "seed": lambda: switched(torch.manual_seed, 7, 0),
    "saved on cpu": torch.autograd.graph.save_on_cpu,
}


def pair(**channel: Any) -> antiphon.Scenario:
    eye = {"observes": ["image"], "network": lambda inputs, outputs: nn.Linear(inputs, outputs)}
    mind = {"objective": {"kind": "classification", "target": "label"}}
    channels = [{"from": "eye", "to": "mind", "size": 4, **channel}]
    training = {"batch": 8, "steps": 20}
    return antiphon.Scenario(
        scenario="pair", env=DIGITS, agents={"eye": eye, "mind": mind}, channels=channels, training=training
    )


def actor() -> antiphon.Scenario:
    policy = {
        "observes": ["observation"],
        "clock": {"unroll": 4},
        "acts": True,
        "objective": {"kind": "a2c", "reward": "reward"},
    }
    env = {"id": "gymnasium/CartPole-v1"}
    return antiphon.Scenario(scenario="actor", env=env, agents={"a": policy}, training={"batch": 2})


def of(simulation: antiphon.Simulation) -> list[Tensor]:
    return [p.clone() for agent in simulation.agents.values() for p in agent.parameters.values()]


def trained(scenario: Callable[[], antiphon.Scenario], **settings: Any) -> list[Tensor]:
    with antiphon.Simulation(scenario(), **settings) as simulation:
        simulation.run(3, progress=False)
        simulation.step()
        with simulation.fork() as twin:
            twin.set("*.learning_rate", 0.1)
            twin.step()
            score = simulation.evaluate().accuracy
            return [*of(simulation), *of(twin), torch.tensor(score, dtype=torch.float64, device="cpu")]


def population() -> list[Tensor]:
    members = antiphon.Population(pair(gradient="linear"), [0, 1])
    try:
        members.run(2)
        members.exploit(0, 1)
        return [p for member in members.simulations for p in of(member)]
    finally:
        members.close()


def joined() -> list[Tensor]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    for n, p in enumerate(model.parameters()):
        nn.init.constant_(p, 0.01 * n)
    scenario = antiphon.split(model, at=[3], env=DIGITS, coupling="locked", batch=8, steps=3)
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(progress=False)
        return [p.detach() for p in antiphon.join(simulation).parameters()]


def acted() -> list[Tensor]:
    with antiphon.Simulation(actor()) as simulation:
        simulation.run(4, progress=False)
        policy = simulation.policy(greedy=False)
        observation = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2, dtype=torch.float32, device="cpu")
        return [*of(simulation), torch.as_tensor(policy.act(observation), device="cpu")]


DOORS: dict[str, Door] = {
    "locked": lambda: trained(lambda: pair(coupling="locked")),
    "decoupled": lambda: trained(lambda: pair(gradient={"kind": "mlp", "context": ["label"]})),
    "reference": lambda: trained(lambda: pair(gradient="linear"), backend=reference),
    "population": population,
    "policy": acted,
}


@cache
def plain(door: str) -> list[Tensor]:
    """Numbers of a door that was called in no context."""
    return DOORS[door]()


def state() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_anomaly_enabled(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    )


def check(name: str, door: str) -> None:
    right = plain(door)
    with CONTEXTS[name]():
        before = state()
        numbers = DOORS[door]()
        assert state() == before
    assert all(torch.equal(one, other) for one, other in zip(numbers, right, strict=True))


@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_around_a_run_changes_nothing(name: str) -> None:
    check(name, "decoupled")


@pytest.mark.long
@pytest.mark.parametrize("door", [door for door in DOORS if door != "decoupled"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_around_any_door_changes_nothing(name: str, door: str) -> None:
    check(name, door)


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "autocast"])
def test_a_split_model_learns_in_a_context_as_without(name: str) -> None:
    right = joined()
    with CONTEXTS[name]():
        numbers = joined()
    assert all(torch.equal(one, other) for one, other in zip(numbers, right, strict=True))


def looped(context: Context) -> list[Tensor]:
    """A loop of the caller's own, whose channel is used in a context and whose networks are not."""
    torch.manual_seed(0)
    sender, receiver = nn.Linear(3, 4), nn.Linear(4, 2)
    channel = Channel(4, gradient="mlp", context={"kind": 2})
    x, kinds = torch.rand(8, 3), torch.arange(8) % 2
    for _ in range(3):
        message = sender(x)
        channel.send(message, kind=kinds)
        loss = nn.functional.cross_entropy(receiver(channel.receive()), kinds)
        with context():
            learn(loss, receiver.parameters(), received=[channel])
            learn(None, sender.parameters(), sent=[channel])
            channel.learn()
        with torch.no_grad():
            for p in [*sender.parameters(), *receiver.parameters()]:
                p -= 0.1 * (torch.zeros_like(p) if p.grad is None else p.grad)
                p.grad = None
    return [p.detach() for network in (sender, receiver) for p in network.parameters()] + [
        *channel.parameters()
    ]


@pytest.mark.parametrize("name", ["no_grad", "inference_mode", "autocast", "default dtype", "default device"])
def test_a_channel_learns_in_a_context_as_without(name: str) -> None:
    right = looped(ExitStack)
    assert all(torch.equal(one, other) for one, other in zip(looped(CONTEXTS[name]), right, strict=True))


def test_a_callback_has_the_context_of_its_caller() -> None:
    seen = []
    with antiphon.Simulation(pair(coupling="locked")) as simulation, torch.no_grad():
        simulation.run(1, progress=False, callbacks=[lambda _: seen.append(torch.is_grad_enabled())])
    assert seen == [False]
