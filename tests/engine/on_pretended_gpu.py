"""On a GPU the step loop neither waits nor copies, computes the CPU's bits, and launches few kernels: on a pretended one.

It registers a device for its whole process: `test_device.py` runs these tests in one of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.scenarios import library_names
from benchmarks.frozen_numbers import scenario_of
from benchmarks.ring import ring
from tests.kit.pretend_gpu import Counts, PretendGpu, PretendTensor, on_host, pretend_gpu
from tests.kit.running import captured

WARM = 5
"""Steps at the beginning that are not counted, at least: constants are made, and messages under way."""
VARIANT = {
    "char-lm": "auxiliary",
    "copy": "trace",
    "feudal-keydoor": "feudal",
    "hyperplane": "deep",
    "lossy": "with_si",
    "unlocked": "unlocked",
}
"""What is run of a scenario; else `decoupled`."""
PERIOD = {
    "big-corporation": 6,
    "capture-flag": 50,
    "clockwork": 16,
    "corporation": 6,
    "speaker-listener": 25,
    "three-timescales": 16,
    "two-timescales": 16,
}
"""Steps after which schedule and episodes repeat; else 2."""
EAGER = {
    "cartpole-team": "its episodes vary in length",
    "copy": "its episodes vary in length",
    "feudal-keydoor": "its episodes vary in length",
    "repeat-copy": "its episodes vary in length",
    "cartpole-prior": "its episodes vary in length",
    "capture-flag": "gates decide whether senders move",
    "referential-reward": "gates decide whether senders move",
    "speaker-listener": "gates decide whether senders move",
}
"""What the host waits for."""
LAUNCHES = {"corporation": 850, "digits-mlp": 130, "two-timescales": 1_300}
"""The most kernels that a step may launch."""


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with pretend_gpu() as one:
        yield one


def small(name: str, agents: int = 12) -> Scenario:
    """A library scenario in a few environments, without metrics in between."""
    settings = {"batch": 4, "agents": agents, "data": "shapes"}
    return quiet(scenario_of(name, VARIANT.get(name, "decoupled"), settings))


def quiet(scenario: Scenario) -> Scenario:
    """The scenario without metrics in between."""
    telemetry = scenario.telemetry.model_copy(update={"period": 10_000})
    return scenario.model_copy(update={"telemetry": telemetry})


def numbers(simulation: Simulation) -> dict[str, Tensor]:
    """Parameters and running statistics of agents and predictors."""
    owners: dict[str, Any] = {**simulation.agents}
    for name, channel in simulation.channels.items():
        owners |= {f"{name} gradient": channel.synthetic_gradient, f"{name} input": channel.synthetic_input}
    return {
        f"{name} {key}": on_host(value)
        for name, owner in owners.items()
        if owner is not None
        for key, value in (*owner.parameters.items(), *owner.buffers.items())
    }


def recorded(gpu: PretendGpu, scenario: Scenario, period: int) -> tuple[Simulation, list[Counts]]:
    """A simulation on the pretended GPU, and the counts of the steps of its second period."""
    simulation = Simulation(scenario, device="cuda")
    for _ in range(max(period, WARM)):
        simulation.step()
    found = []
    for _ in range(period):
        with gpu.recording() as counts:
            simulation.step()
        found.append(counts)
    return simulation, found


def most_launches(steps: Sequence[Counts]) -> int:
    return max(step.launches.total() for step in steps)


CORE = ("char-lm", "corporation", "digits-mlp", "lossy", "mnist-cnn", "two-timescales")
"""Scenarios of different mechanisms; the others are tried at night."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in CORE else (pytest.mark.nightly,)) for n in library_names()],
)
def test_a_scenario_of_the_library_neither_waits_nor_copies_and_has_the_bits_of_the_cpu(
    name: str, gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.nets.step_numbers.SINGLE_RATES", ())  # the pretended kernels are the CPU's
    period = PERIOD.get(name, 2)
    simulation, steps = recorded(gpu, small(name), period)
    assert all(
        isinstance(p, PretendTensor) for a in simulation.agents.values() for p in a.parameters.values()
    )
    assert sum((step.mismatches for step in steps), Counter()) == {}
    if name not in EAGER:
        assert sum((step.waits for step in steps), Counter()) == {}
        assert sum((step.host_copies for step in steps), Counter()) == {}
    plain = Simulation(small(name))
    for _ in range(max(period, WARM) + period):
        plain.step()
    found, expected = numbers(simulation), numbers(plain)
    assert found.keys() == expected.keys()
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []
    assert most_launches(steps) <= LAUNCHES.get(name, math.inf)


RECORDED = (
    "corporation",
    "referential-game",
    *(pytest.param(n, marks=pytest.mark.nightly) for n in ("lossy", "two-timescales")),
)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pretended GPU copies from the host as it is asked, and its kernels are the CPU's."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr("antiphon.nets.step_numbers.SINGLE_RATES", ())


def replayed(scenario: Scenario, gpu: PretendGpu, periods: int) -> tuple[Any, Counts]:
    """What has replayed steps on the pretended GPU, to the bits of the CPU, and what was counted meanwhile."""
    found = captured(scenario, device="cuda")
    assert found is not None
    simulation, loop = found
    with gpu.recording() as counts:
        simulation.run(1)
        simulation.run(periods * loop.period)
    plain = Simulation(scenario)
    plain.run(simulation.now)
    reached, expected = numbers(simulation), numbers(plain)
    assert [key for key in reached if not torch.equal(reached[key], expected[key])] == []
    return loop, counts


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_step_mixes_no_devices_and_has_the_bits_of_the_cpu(name: str, gpu: PretendGpu) -> None:
    loop, counts = replayed(small(name, agents=6), gpu, 8)
    assert loop.obstacle is None
    assert loop.replayed >= 2
    assert not counts.mismatches


@pytest.mark.usefixtures("records")
def test_a_period_in_which_the_host_decides_otherwise_is_not_replayed(gpu: PretendGpu) -> None:
    """A link loses a message in all environments, which often happens here."""
    two = {"batch": 4, "drop": 0.5, "agents": 2, "delay": 1, "hold": 2, "steps": 900}
    loop, _ = replayed(quiet(scenario_of("lossy", "without_si", two)), gpu, 30)
    assert 2 <= loop.replayed < 28


def test_a_ring_of_agents_takes_as_many_launches_whatever_their_number(gpu: PretendGpu) -> None:
    few, many = (most_launches(recorded(gpu, ring(count), 1)[1]) for count in (4, 64))
    assert 0 < few == many <= 80


def test_a_device_that_records_nothing_takes_steps_one_by_one_and_says_so(
    gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pretended GPU has no CUDA graphs."""
    monkeypatch.setattr("antiphon.nets.step_numbers.SINGLE_RATES", ())
    found = []
    for device in ("cuda", "cpu"):
        simulation = Simulation(ring(4), device=device, capture=device == "cuda")
        simulation.run(30)
        found.append(numbers(simulation))
    assert [key for key in found[0] if not torch.equal(found[0][key], found[1][key])] == []
    (line,) = caplog.messages
    assert line.startswith("capture: steps are taken one by one: ")


def test_messages_that_a_link_loses_in_all_environments_are_known_without_a_wait(gpu: PretendGpu) -> None:
    """Which happens to every second message here."""
    found = []
    for device in ("cpu", "cuda"):
        scenario = scenario_of("lossy", "without_si", {"batch": 2, "drop": 0.7})
        simulation = Simulation(scenario, device=device)
        for _ in range(WARM):
            simulation.step()
        with gpu.recording() as counts:
            for _ in range(8):
                simulation.step()
        assert not counts.waits
        found.append(numbers(simulation))
    assert [key for key in found[0] if not torch.equal(found[0][key], found[1][key])] == []


# --- what the pretended GPU itself finds ---------------------------------------------------------------------------

WAITS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool((t > 0).any()),
    "mask": lambda t: t[t > 1],
    "copy": lambda t: torch.zeros(3).copy_(t),
}
COPIES: dict[str, Callable[[Tensor], object]] = {
    "tensor": lambda t: torch.tensor([1.0, 2.0], device="cuda"),
    "to": lambda t: torch.ones(2).to(t.device),
    "copy": lambda t: t.copy_(torch.zeros(3)),
    "indices": lambda t: t[torch.tensor([0, 1])],
}


KINDS = {"waits": WAITS, "host_copies": COPIES}


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, calls in KINDS.items() for what in calls])
def test_a_wait_and_a_copy_from_the_host_are_found_as_such_at_their_place(
    kind: str, what: str, gpu: PretendGpu
) -> None:
    tensor = torch.arange(3.0, device="cuda")
    with gpu.recording() as counts:
        KINDS[kind][what](tensor)
    found = {other: getattr(counts, other) for other in KINDS}
    assert "on_pretended_gpu.py" in next(iter(found.pop(kind)))
    assert not any(found.values())
