"""Estimates of the memory that a scenario needs, and one line where there is not as much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.planning.memory_estimate import MemoryEstimate, installed, memory_of, slots
from antiphon.engine.simulation import Simulation
from antiphon.engine.studies.plan import StudyOptions
from antiphon.engine.studies.study import Study
from antiphon.envs import describe
from antiphon.errors import ResourceError
from antiphon.nets import memory
from antiphon.nets.memory import was_refused
from antiphon.scenarios import Scenario, catalogue, load
from tests.engine.planning.test_plan import chain, ring

LIBRARY = catalogue()
CPU = torch.device("cpu")
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


def needs(scenario: Scenario) -> MemoryEstimate:
    return memory_of(build_to_look(scenario, describe(scenario.env)))


# --- what a scenario needs -------------------------------------------------------------------------------


def test_numbers_are_counted_as_they_are() -> None:
    found = needs(ring(3))
    own, taught = 6 * 5 + 5 + 2 * (5 * 3 + 3), 3 * 3 + 3
    assert found.parameters == 4 * 3 * own
    assert found.gradients == 4 * 3 * (own + taught)
    with Simulation(ring(3)) as simulation:
        optimisers = [agent.learner.optimiser for agent in simulation._system.agents.values()]
        state = [t for o in optimisers for tensors in o.state.values() for t in tensors]
    assert found.optimiser == sum(t.numel() * t.element_size() for t in state)
    assert found.predictors > 4 * 3 * 3 * taught
    assert found.total == sum(found.parts().values())


def test_tied_agents_have_their_numbers_once() -> None:
    tied, apart = needs(ring(4, share="all")), needs(ring(4))
    assert (tied.parameters, tied.optimiser) == (apart.parameters // 4, apart.optimiser // 4)
    assert tied.activations == apart.activations


def test_activations_grow_with_the_window() -> None:
    one, four = needs(ring(2)), needs(ring(2, clock={"unroll": 4}))
    assert four.activations == 4 * one.activations
    rare = needs(ring(2, clock={"period": 4, "unroll": 4}))
    assert rare.activations == four.activations


TIMED = [
    load("digits-mlp").resolve("decoupled", {"width": 6, "batch": 2}),
    load("digits-mlp").resolve("locked", {"width": 6, "batch": 2, "delay": 1}),
    load("corporation").resolve("locked", {"agents": 6, "readouts": 1, "batch": 2, "data": "digits"}),
    load("corporation").resolve("decoupled", {"agents": 6, "readouts": 1, "batch": 2, "data": "digits"}),
    load("two-timescales").resolve("locked", {"hidden": 4, "size": 2, "units": 3, "batch": 2}),
    load("clockwork").resolve("decoupled", {"hidden": 3, "size": 2, "units": 3, "batch": 2}),
    load("clockwork").resolve("locked", {"hidden": 3, "size": 2, "units": 3, "batch": 2}),
    chain("delayed", "delayed"),
    chain("decoupled", "delayed", clock={"period": 2, "unroll": 2}),
]


@pytest.mark.parametrize("scenario", TIMED, ids=lambda scenario: scenario.scenario)
def test_no_more_messages_are_kept_than_is_said(scenario: Scenario) -> None:
    most: dict[str, int] = {}
    with Simulation(scenario, backend="reference") as simulation:
        for _ in range(80):
            simulation.step()
            for channel in simulation._system.channels.values():
                most[channel.name] = max(most.get(channel.name, 0), len(channel.ledger.records))
        system = simulation._system
        for name, kept in most.items():
            said = slots(system.channels[name], system.group_of[system.channels[name].sender])
            assert kept <= said, name
            late = any(unit.late for unit in system.groups)  # who may wait longer than it has to here
            assert late or said <= 2 * kept + 4, name


def test_what_is_far_too_large_is_counted_without_being_made() -> None:
    scenario = load("digits-mlp").resolve(None, {"width": 3_000_000, "batch": 1000})
    found = needs(scenario)
    assert found.total > 2**40
    assert found.parts()["parameters"] > 4 * 2 * 3_000_000**2


# --- what the machine has --------------------------------------------------------------------------------


def test_installed_memory_is_what_linux_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       24684092 kB\nMemFree:        16990272 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "limit",))
    assert installed(CPU) == 24684092 * 1024
    for text, found in (("max\n", 24684092 * 1024), ("1048576\n", 1048576)):
        (tmp_path / "limit").write_text(text)
        assert installed(CPU) == found


def test_elsewhere_nobody_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_LIMITS", ())
    assert installed(CPU) is None
    if not torch.cuda.is_available():
        assert installed(torch.device("cuda")) is None
    with Simulation(ring(2)) as simulation:
        simulation.step()


# --- where it is not enough ------------------------------------------------------------------------------


def test_torchs_refusal_in_the_middle_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(ring(3))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(NO_MEMORY)

    monkeypatch.setattr(simulation.backend, "tick", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch") as caught:
        simulation.step()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_refusal_while_it_is_built_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError(NO_MEMORY)

    monkeypatch.setattr("antiphon.engine.base_simulation.build", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch"):
        Simulation(ring(3))


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert was_refused(MemoryError())
    assert was_refused(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert not was_refused(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not was_refused(None)
    simulation = Simulation(ring(2))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(simulation.backend, "tick", fail)
    with pytest.raises(RuntimeError, match="a defect") as caught:
        simulation.step()
    assert not isinstance(caught.value, ResourceError)


def test_a_study_goes_on_without_a_run_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError(NO_MEMORY)

    monkeypatch.setattr("antiphon.engine.base_simulation.build", refuse)
    study = Study.of_template(
        load("digits-mlp"), tmp_path, StudyOptions(variants=("local",), seeds=1, steps=2)
    )
    result = study.go(1, lambda line: None)
    assert result["exit_code"] == 1
    assert result["failed"]["local-s0"].startswith("out of memory; lower training.batch")
