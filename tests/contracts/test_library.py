"""Every library scenario: it can be composed, and on a GPU it learns what it learns on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from antiphon import Simulation, envs
from antiphon.scenarios import catalogue
from tests.contracts.library import MORE, SMALL, TIMED, resolved


def cases() -> Iterator[Any]:
    """All scenarios; their other mechanisms are `long`."""
    for name in SMALL:
        for i, values in enumerate([{}, *MORE.get(name, [])]):
            label = "-".join(f"{key}={value}" for key, value in values.items())
            marks = () if i == 0 else (pytest.mark.long,)
            yield pytest.param(name, values, id=f"{name}-{label or 'default'}", marks=marks)


CASES = list(cases())
COMPOSED = [
    case
    for case in CASES
    if case.values[0] not in TIMED or not case.values[1] or {"cell", "read", "delay"} & set(case.values[1])
]
"""Whose composition is not that of another: how an agent with a state learns does not show in it."""
OUTPUTS = {"hyperplane": 2, "referential-game": 8, "referential-reward": 4}
"""Outputs of a readout that has not ten."""


def test_all_scenarios_of_the_library_are_tried() -> None:
    assert SMALL.keys() == catalogue().keys()


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "values"), CASES)
def test_a_gpu_learns_what_the_cpu_does(
    name: str, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64, whose rounding alone differs between the devices, with learning rates in float32 on both.

    Twice differentiated predictions amplify rounding: a run whose weights begin one rounding away says by how much.
    """
    monkeypatch.setattr("antiphon.nets.step_numbers.SINGLE_RATES", ("cpu", "cuda"))
    host, nudged, device = (
        Simulation(resolved(name, values), seed=3, device=where, dtype=torch.float64)
        for where in ("cpu", "cpu", "cuda")
    )
    before = learned(host)
    nudge(nudged)
    for simulation in (host, nudged, device):
        simulation.run(42)
    after, near, found = map(learned, (host, nudged, device))
    assert after.keys() == found.keys() == before.keys()
    assert any(not torch.equal(value, before[place]) for place, value in after.items())
    allowed = {place: 1e-6 * torch.dist(value, before[place]) + 1e-9 for place, value in after.items()}
    amplified = max(float(torch.dist(near[place], after[place]) / allowed[place]) for place in after)
    for place, value in after.items():
        assert torch.dist(found[place], value) <= max(1.0, 10 * amplified) * allowed[place], place


def nudge(simulation: Simulation) -> None:
    """Move each weight of a float64 system by at most one rounding."""
    generator = torch.Generator().manual_seed(0)
    for agent in simulation.agents.values():
        for weight in agent.parameters.values():
            signs = torch.randint(-1, 2, weight.shape, generator=generator, dtype=weight.dtype)
            with torch.no_grad():
                weight.mul_(1 + torch.finfo(weight.dtype).eps * signs)


def learned(simulation: Simulation) -> dict[str, torch.Tensor]:
    """Copies of all parameters, on the CPU, by place."""
    found = {name: agent.parameters for name, agent in simulation.agents.items()}
    for name, channel in simulation.channels.items():
        if channel.synthetic_gradient is not None:
            found[name] = channel.synthetic_gradient.parameters
    return {
        f"{name}/{key}": value.detach().cpu().clone()
        for name, each in found.items()
        for key, value in each.items()
    }


@pytest.mark.cases(2)
@pytest.mark.parametrize(("name", "values"), COMPOSED)
def test_it_is_composed(name: str, values: dict[str, Any]) -> None:
    simulation = Simulation(resolved(name, values))
    simulation.run(3)
    module = simulation.compose()
    described = envs.describe(simulation.scenario.env).signals
    assert not any(described[name].training_only for name in module.signal_names)
    if name in TIMED:
        _goes_on(simulation, module)
        return
    outputs = module(simulation.signals)
    assert set(outputs) == set(simulation.scenario.readouts)
    assert all(output.shape == (4, OUTPUTS.get(name, 10)) for output in outputs.values())


def _goes_on(simulation: Simulation, module: Any) -> None:
    """It begins in silence; with a state that holds more than the steps it says something else."""
    steps = module.steps_per_round
    signals = envs.describe(simulation.scenario.env).signals
    rng = torch.Generator().manual_seed(0)
    given = {name: torch.rand(steps, 4, *signals[name].shape, generator=rng) for name in module.signal_names}
    first, state = module(given)
    again, _ = module(given)
    later, end = module(given, state)
    assert set(first) == set(simulation.scenario.readouts)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(state) == 1 or any(not torch.equal(first[name], later[name]) for name in first)
    assert (end.keys(), end["steps"].item()) == (state.keys(), 2 * steps)
