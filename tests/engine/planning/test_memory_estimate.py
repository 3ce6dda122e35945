"""Estimates of the memory that a scenario needs, and one line where there is not as much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.build.builder import build_to_look
from antiphon.engine.planning.memory_estimate import MemoryEstimate, installed, memory_of, slots
from antiphon.engine.simulation import Simulation
from antiphon.envs import describe
from antiphon.errors import ResourceError
from antiphon.nets import memory
from antiphon.nets.memory import was_refused
from antiphon.scenarios import Scenario, load
from tests.engine.planning.test_plan import chain, ring

CPU = torch.device("cpu")
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


def needs(scenario: Scenario) -> MemoryEstimate:
    return memory_of(build_to_look(scenario, describe(scenario.env)))


# --- what a scenario needs -------------------------------------------------------------------------------


def test_numbers_are_counted_as_they_are() -> None:
    """Of tied agents once; activations grow with the window."""
    found = needs(ring(3))
    own, taught = 6 * 5 + 5 + 2 * (5 * 3 + 3), 3 * 3 + 3
    assert found.parameters == 4 * 3 * own
    assert found.gradients == 4 * 3 * (own + taught)
    with Simulation(ring(3)) as simulation:
        state = [t for agent in simulation.agents.values() for each in agent.optimiser.values() for t in each]
    assert found.optimiser == sum(t.numel() * t.element_size() for t in state)
    assert found.predictors > 4 * 3 * 3 * taught
    assert found.total == sum(found.parts().values())
    tied, apart = needs(ring(4, share="all")), needs(ring(4))
    assert (tied.parameters, tied.optimiser) == (apart.parameters // 4, apart.optimiser // 4)
    assert tied.activations == apart.activations
    for clock in ({"unroll": 4}, {"period": 4, "unroll": 4}):
        assert needs(ring(2, clock=clock)).activations == 4 * needs(ring(2)).activations


def test_what_is_far_too_large_is_counted_without_being_made() -> None:
    found = needs(load("digits-mlp").resolve(None, {"width": 3_000_000, "batch": 1000}))
    assert found.total > 2**40
    assert found.parts()["parameters"] > 4 * 2 * 3_000_000**2


CLOCKS = {"hidden": 3, "size": 2, "units": 3, "batch": 2}
TEAM = {"agents": 6, "readouts": 1, "batch": 2, "data": "digits"}
KEPT = {
    "decoupled": load("digits-mlp").resolve("decoupled", {"width": 6, "batch": 2}),
    "locked, delay": load("digits-mlp").resolve("locked", {"width": 6, "batch": 2, "delay": 1}),
    "delayed": chain("delayed", "delayed"),
    "windows": ring(3, clock={"unroll": 3}),
    "periods": chain("decoupled", "delayed", clock={"period": 2, "unroll": 2}),
    "timescales": load("two-timescales").resolve("locked", {"hidden": 4, "size": 2, "units": 3, "batch": 2}),
    "clockwork": load("clockwork").resolve("decoupled", CLOCKS),
    "clockwork, locked": load("clockwork").resolve("locked", CLOCKS),
    "corporation": load("corporation").resolve("decoupled", TEAM),
    "corporation, locked": load("corporation").resolve("locked", TEAM),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in list(KEPT)[:5] else pytest.mark.long) for n in KEPT]
)
def test_no_more_messages_are_kept_than_is_said(name: str) -> None:
    """What a ledger keeps at once, on the backend that lets go of nothing early (core.records)."""
    most: dict[str, int] = {}
    with Simulation(KEPT[name], backend="reference") as simulation:
        for _ in range(20 if name in list(KEPT)[:5] else 80):
            simulation.step()
            system = simulation._system  # as it is now
            for channel in system.channels.values():
                most[channel.name] = max(most.get(channel.name, 0), len(channel.ledger.records))
        assert all(most.values())
        for channel_name, kept in most.items():
            said = slots(system.channels[channel_name], system.group_of[system.channels[channel_name].sender])
            assert kept <= said, channel_name
            late = any(unit.late for unit in system.groups)  # who may wait longer than it has to here
            assert late or said <= 2 * kept + 4, channel_name


# --- what the machine has, and where it is not enough ----------------------------------------------------


def test_installed_memory_is_what_linux_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "limit",))
    assert installed(CPU) is None  # elsewhere nobody says
    (tmp_path / "meminfo").write_text("MemTotal:       24684092 kB\nMemFree:        16990272 kB\n")
    assert installed(CPU) == 24684092 * 1024
    for text, found in (("max\n", 24684092 * 1024), ("1048576\n", 1048576)):
        (tmp_path / "limit").write_text(text)
        assert installed(CPU) == found


def test_torchs_refusal_is_one_line_and_other_errors_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError(NO_MEMORY)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    assert was_refused(MemoryError())
    assert was_refused(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert not was_refused(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not was_refused(None)
    simulation = Simulation(ring(3))
    monkeypatch.setattr(simulation.backend, "tick", fail)
    with pytest.raises(RuntimeError, match="a defect") as defect:
        simulation.step()
    assert not isinstance(defect.value, ResourceError)
    monkeypatch.setattr(simulation.backend, "tick", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch") as caught:
        simulation.step()
    assert isinstance(caught.value.__cause__, RuntimeError)
    monkeypatch.setattr("antiphon.engine.base_simulation.build", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch"):
        Simulation(ring(3))
