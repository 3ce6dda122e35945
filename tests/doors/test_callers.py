"""The caller's process: what torch's contexts and switches around a call change in it, and it in them: nothing."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import antiphon
import antiphon.testing
from tests.kit.documented import ablate, signal_alignment
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


class Functions(TorchFunctionMode):
    """Sees every call of torch's functions."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Sees every operation of torch."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


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
    "deterministic": lambda: switched(torch.set_deterministic_debug_mode, "error", "default"),
    "seed": lambda: switched(torch.manual_seed, 7, 0),
    "saved on cpu": torch.autograd.graph.save_on_cpu,
    "half as default": lambda: switched(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "autocast to half": lambda: torch.autocast("cpu", torch.float16),
    "forked": lambda: torch.random.fork_rng([]),
    "no hooks of saved tensors": lambda: torch.autograd.graph.disable_saved_tensors_hooks("none"),
    "one thread backwards": lambda: torch.autograd.set_multithreading_enabled(False),
    "functions": Functions,
    "operations": Operations,
    "flops": lambda: FlopCounterMode(display=False),
    "attention": lambda: sdpa_kernel(SDPBackend.MATH),
    "parametrizations": nn.utils.parametrize.cached,
    "forward gradients": torch.autograd.forward_ad.dual_level,
    "sparse tensors": torch.sparse.check_sparse_tensor_invariants,
    "numpy's errors": lambda: np.errstate(all="raise"),
}
SWITCHED = (
    "no_grad",
    "autocast",
    "default dtype",
    "default device",
    "anomaly",
    "denormals",
    "threads",
    "seed",
)
"""Contexts that change numbers, or what is recorded; around one call all together."""


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


def acted() -> list[Tensor]:
    with antiphon.Simulation(actor()) as simulation:
        simulation.run(4, progress=False)
        policy = simulation.policy(greedy=False)
        observation = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 2, dtype=torch.float32, device="cpu")
        return [*of(simulation), torch.as_tensor(policy.act(observation), device="cpu")]


def numbers_of(value: object) -> Tensor:
    """Numbers in the text of an object, as one that stands for them."""
    found = [float(one) for one in re.findall(r"\d+\.\d+", str(value))]
    assert found
    return torch.tensor(found, dtype=torch.float64, device="cpu")


def written() -> list[Tensor]:
    """What a run writes, and what is read again from that: a directory, a checkpoint, weights."""
    scenario = pair(coupling="locked")
    with TemporaryDirectory() as folder:
        logdir, file = Path(folder, "run"), Path(folder, "saved.safetensors")
        with antiphon.Simulation(scenario, logdir=logdir) as simulation:
            simulation.run(3, progress=False)
        with antiphon.Simulation.resume(logdir, scenario=scenario) as simulation:
            simulation.run(3, progress=False)
            simulation.save(file)
            simulation.step()
            far = of(simulation)
            simulation.load(file, scenario=scenario)
            simulation.step()
            again = of(simulation)
            simulation.load_weights(file)
            simulation.compose()
            return [*far, *again, *of(simulation)]


def exported() -> list[Tensor]:
    """What leaves a run: the composed module, files, and the true gradients of messages."""
    with antiphon.Simulation(pair(gradient="linear")) as simulation, TemporaryDirectory() as folder:
        simulation.run(2, progress=False)
        module = simulation.compose()
        program = simulation.export(Path(folder, "system.pt2"))
        weights = simulation.export(Path(folder, "weights.safetensors"))
        probe = simulation.probe()
        with torch.device("cpu"), torch.inference_mode(mode=False):
            read = torch.export.load(str(program)).state_dict
        parts = (module.state_dict(), read, load_file(weights))
        return [*(value.clone() for part in parts for value in part.values()), numbers_of(probe)]


def measured() -> list[Tensor]:
    """What is measured of channels by functions that are given a simulation."""
    with antiphon.Simulation(pair(gradient="linear")) as simulation:
        simulation.run(2, progress=False)
        lost = ablate(simulation, "zero", examples=20)
        cosines = signal_alignment(simulation, messages=4)
        return [numbers_of(cosines), numbers_of(lost)]


def studied() -> list[Tensor]:
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        table = antiphon.study(
            pair(coupling="locked"), seeds=1, steps=2, jobs=1, logdir=Path(folder, "study")
        )
        return [numbers_of([run["loss"] for run in table.result["runs"].values()])]


def played() -> list[Tensor]:
    """Environments and data without a run."""
    x = torch.arange(60.0, dtype=torch.float32, device="cpu").reshape(20, 3)
    sources = (
        antiphon.envs.from_tensors(x=x, y=[1, 2] * 10),
        antiphon.envs.from_dataset([(row, 1) for row in x], ("x", "y")),
        antiphon.envs.from_loader([(x[:2], x[:2])], ("x", "y")),
        antiphon.envs.from_sequences(x=[x] * 9),
    )
    worlds = [antiphon.envs.make(spec, batch=2) for spec in (DIGITS, {"id": "gymnasium/CartPole-v1"})]
    found = []
    for env in (*worlds, *(source.make(batch=2) for source in sources)):
        found += env.reset(seed=1)[0].values()
        found += [value for _ in range(2) for value in env.step(None)[0].values()]
    assert not any(value.is_inference() for value in found)
    return found


def checked() -> list[Tensor]:
    """A component that is tried, and a scenario of the library."""
    antiphon.testing.check(lambda inputs, outputs: nn.Linear(inputs, outputs), point="network")
    with antiphon.Simulation(antiphon.load("digits-mlp")) as simulation:
        simulation.step()
        return of(simulation)


DOORS: dict[str, Door] = {
    "locked": lambda: trained(lambda: pair(coupling="locked")),
    "decoupled": lambda: trained(lambda: pair(gradient={"kind": "mlp", "context": ["label"]})),
    "reference": lambda: trained(lambda: pair(gradient="linear"), backend=reference),
    "population": population,
    "policy": acted,
    "files": written,
    "exports": exported,
    "measurements": measured,
    "study": studied,
    "environments": played,
    "checks": checked,
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
        random.getstate(),
        str(np.random.get_state()),
    )


def check(name: str, door: str) -> None:
    right = plain(door)
    names = SWITCHED if name == "all" else (name,)
    with ExitStack() as around:
        for one in names:
            around.enter_context(CONTEXTS[one]())
        random.seed(7)  # a door that seeds what the caller draws from has done so before, in `plain`
        np.random.seed(7)
        before = state()
        numbers = DOORS[door]()
        assert state() == before
    assert all(torch.equal(one, other) for one, other in zip(numbers, right, strict=True))


"""Doors that import much, or run much, or are much like another one."""


@pytest.mark.nightly
@pytest.mark.parametrize("door", [door for door in DOORS if door != "decoupled"])
@pytest.mark.parametrize("name", CONTEXTS)
def test_a_context_around_any_door_changes_nothing(name: str, door: str) -> None:
    check(name, door)


def test_a_callback_has_the_context_of_its_caller() -> None:
    seen = []
    with antiphon.Simulation(pair(coupling="locked")) as simulation, torch.no_grad():
        simulation.run(1, progress=False, callbacks=[lambda _: seen.append(torch.is_grad_enabled())])
    assert seen == [False]
