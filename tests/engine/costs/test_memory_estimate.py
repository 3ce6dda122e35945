"""Estimates of the memory that a scenario needs, and one line where there is not as much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon import Population, Scenario, Simulation, load
from antiphon.errors import ResourceError
from benchmarks.split import Kept
from tests.contracts.builders import GOAL, LABEL, Document, document
from tests.engine.costs.conftest import Planned
from tests.engine.costs.test_plan import OWN, chain, ring
from tests.kit import seams
from tests.kit.running import message_slots
from tests.reference.backend import reference

NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


# --- what a scenario needs -------------------------------------------------------------------------------


def test_numbers_are_counted_as_they_are(planned: Planned) -> None:
    """Of tied agents once; activations grow with the window."""

    def needs(scenario: Scenario) -> dict[str, int]:
        found: dict[str, int] = planned(scenario)["memory"]
        return found

    found, taught = needs(ring(3)), 3 * 3 + 3
    assert found["parameters"] == 4 * 3 * OWN
    assert found["gradients"] == 4 * 3 * (OWN + taught)
    with Simulation(ring(3)) as simulation:
        state = [t for agent in simulation.agents.values() for each in agent.optimiser.values() for t in each]
    assert found["optimiser"] == sum(t.numel() * t.element_size() for t in state)
    assert found["predictors"] > 4 * 3 * 3 * taught
    assert found["total"] == sum(size for part, size in found.items() if part != "total")
    tied, apart = (needs(ring(4, observes=["patch_0"], **share)) for share in ({"share": "all"}, {}))
    assert (tied["parameters"], tied["optimiser"]) == (apart["parameters"] // 4, apart["optimiser"] // 4)
    assert tied["activations"] == apart["activations"]
    for clock in ({"unroll": 4}, {"period": 4, "unroll": 4}):
        assert needs(ring(2, clock=clock))["activations"] == 4 * needs(ring(2))["activations"]


def test_what_is_far_too_large_is_counted_without_being_made(planned: Planned) -> None:
    found = planned("digits-mlp --set width=3000000 --set batch=1000")["memory"]
    assert found["total"] > 2**40
    assert found["parameters"] > 4 * 2 * 3_000_000**2


def test_full_replay_buffers_are_counted(planned: Planned) -> None:
    """Of 16 ticks, with four numbers observed, a reward, a choice of eight bytes and three masks each; and the count of each row."""
    objective = {"kind": "q", "replay": 3}
    player = {"observes": ["observation"], "acts": True, "objective": objective}
    scene = {"scenario": "pole", "env": "antiphon/CartPole-v0", "agents": {"player": player}}
    found = planned(Scenario.model_validate({**scene, "training": {"batch": 8}}))["memory"]
    assert found["replay"] == 8 * (3 * 16 * ((4 + 1) * 4 + 8 + 3) + 8)


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
QUICK = list(KEPT)[:5]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.nightly) for n in KEPT]
)
def test_no_more_messages_are_kept_than_is_said(name: str) -> None:
    """What a channel keeps at once, on the backend that lets go of nothing early."""
    with Simulation(KEPT[name], backend=reference) as simulation:
        said, waits = message_slots(simulation)
        most = dict.fromkeys(said, 0)
        for _ in range(20 if name in QUICK else 80):
            simulation.step()
            for channel, found in simulation.channels.items():
                most[channel] = max(most[channel], len(found.messages))
    for channel, kept in most.items():
        assert 0 < kept <= said[channel], channel
        assert waits or said[channel] <= 2 * kept + 4, channel


# --- what autograd keeps ---------------------------------------------------------------------------------


def row(
    coupling: str, sweep: bool, *, agents: int = 4, unroll: int = 1, width: int = 64, late: bool = False
) -> Scenario:
    """Agents in a row, each the only reader of the one before; `late`: the second's goal is known after the step."""
    network: Document = {"kind": "mlp", "hidden": [width, width], "norm": "none", "activation": "tanh"}
    named: Document = {
        f"m{i}": {"network": network, "clock": {"unroll": unroll}, "observes": [] if i else ["x"]}
        for i in range(agents)
    }
    named[f"m{agents - 1}"]["objective"] = LABEL
    if late:
        named["m1"]["objective"] = GOAL
    way: Document = {"size": 6, "coupling": coupling, "norm": "none"}
    if coupling == "decoupled":
        way["gradient"] = {"kind": "linear", "context": ["label"]}
    ways = [{"from": f"m{i}", "to": f"m{i + 1}", **way} for i in range(agents - 1)]
    return Scenario.model_validate(document(named, ways, sweep=sweep))


def plan_of_row(planned: Planned, *values: Any) -> Any:
    names = ("coupling", "sweep", "agents", "unroll", "width", "late")
    words = [f"--set {name}={value}" for name, value in zip(names, values, strict=False)]
    return planned("tests.engine.costs.test_memory_estimate:row", " ".join(words))


@pytest.mark.cases(2)
@pytest.mark.parametrize("coupling", ["detached", "decoupled", "locked"])
@pytest.mark.parametrize("sweep", ["true", "false"])
def test_the_activations_are_what_autograd_keeps(coupling: str, sweep: str, planned: Planned) -> None:
    """But for what the objective keeps of its outputs."""
    with Simulation(row(coupling, sweep == "true", agents=6)) as simulation:
        simulation.run(2)
        account = Kept([p for agent in simulation.agents.values() for p in agent.parameters.values()])
        measured = account.during(simulation.step)
    found = plan_of_row(planned, coupling, sweep, 6)
    assert found["sweep"] is (sweep == "true")
    assert 0.9 * measured <= found["memory"]["activations"] <= 1.1 * measured


def test_earlier_ticks_of_a_window_wait_for_its_last(planned: Planned) -> None:
    def most(sweep: str, unroll: int) -> int:
        found: int = plan_of_row(planned, "decoupled", sweep, 4, unroll)["memory"]["activations"]
        return found

    one = most("false", 1) / 4
    assert most("true", 3) == pytest.approx((4 * 2 + 1) * one, rel=0.1)
    assert most("false", 3) == pytest.approx(4 * 3 * one, rel=0.1)


def test_what_has_to_wait_counts_beside_the_largest(planned: Planned) -> None:
    found = plan_of_row(planned, "decoupled", "true", 4, 1, 64, "true")
    assert found["not_swept"] == [{"agents": ["m1"], "reason": "the target goal is known after the step"}]
    largest = plan_of_row(planned, "decoupled", "true")["memory"]["activations"]
    assert 1.5 * largest < found["memory"]["activations"] <= 2 * largest


# --- what the machine has, and where it is not enough ----------------------------------------------------


@pytest.mark.long
def test_installed_memory_is_what_linux_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: Planned
) -> None:
    monkeypatch.setattr(seams.MEMORY_INFO, tmp_path / "meminfo")
    monkeypatch.setattr(seams.LIMITS_OF_MEMORY, (tmp_path / "limit",))
    assert planned("eyes")["installed"] is None  # elsewhere nobody says
    (tmp_path / "meminfo").write_text("MemTotal:       24684092 kB\nMemFree:        16990272 kB\n")
    assert planned("eyes")["installed"] == 24684092 * 1024
    for text, found in (("max\n", 24684092 * 1024), ("1048576\n", 1048576)):
        (tmp_path / "limit").write_text(text)
        assert planned("eyes")["installed"] == found


def test_torchs_refusal_is_one_line_and_other_errors_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise RuntimeError(NO_MEMORY)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    simulation = Simulation(ring(3))
    monkeypatch.setattr(simulation.running.backend, "tick", fail)
    with pytest.raises(RuntimeError, match="a defect") as defect:
        simulation.step()
    assert not isinstance(defect.value, ResourceError)
    simulation = Simulation(ring(3))
    monkeypatch.setattr(simulation.running.backend, "tick", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch") as caught:
        simulation.step()
    assert isinstance(caught.value.__cause__, RuntimeError)
    population = Population(ring(3), seeds=[0, 1])
    monkeypatch.setattr("antiphon.jobs.stacked_program.step_once", refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch"):
        population.step()
    monkeypatch.setattr(seams.BUILD, refuse)
    with pytest.raises(ResourceError, match=r"^out of memory; lower training\.batch"):
        Simulation(ring(3))
