"""Backends: which one `auto` takes, what is said of one there is none of, and that a run keeps the one it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine import simulation as simulations
from antiphon.engine.core.system import System
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.runs.trainer import Outcome
from antiphon.engine.simulation import Simulation
from antiphon.engine.step import backends
from antiphon.engine.step.backends import BACKENDS, backend_of, chosen_backend
from antiphon.engine.step.engine import Engine
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario, Template

OWN: dict[str, Any] = {
    "observes": ["left_half"],
    "network": {"kind": "mlp", "norm": "none"},
    "objective": {"kind": "classification", "target": "label"},
}


def scenario(*widths: int, **training: Any) -> Scenario:
    """Agents of these widths, who tell nobody: those of one width are alike."""
    agents = {
        f"n{i}": {**OWN, "network": {**OWN["network"], "hidden": [width]}} for i, width in enumerate(widths)
    }
    return Scenario.model_validate(
        {
            "scenario": "crowd",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": agents,
            "channels": [],
            "training": {"batch": 4, "steps": 6, **training},
        }
    )


def system(*widths: int) -> System:
    return Simulation(scenario(*widths), backend="reference").system


# --- auto ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((4,), "reference"),
        ((4, 4), "reference"),
        ((4, 4, 4), "cohort"),
        ((4, 5, 6), "reference"),
        ((4, 4, 5, 5, 5), "reference"),
        ((4, 5, 4, 5, 4, 5), "cohort"),
        ((4, 4, 4, 4, 4, 5), "cohort"),
        ((4, 4, 4, 4, 5, 6), "reference"),
    ],
)
def test_auto_takes_cohorts_where_on_average_three_are_alike(widths: tuple[int, ...], expected: str) -> None:
    made = system(*widths)
    assert chosen_backend("auto", made) == expected
    assert Simulation(scenario(*widths)).backend.name == expected
    assert type(backend_of("auto", made)) is (Engine if expected == "cohort" else Engine)


def test_what_is_asked_for_is_what_there_is() -> None:
    for widths in ((4, 5), (4, 4, 4, 4)):
        for name, kind in (("cohort", Engine), ("reference", Engine)):
            simulation = Simulation(scenario(*widths), backend=name)
            assert type(simulation.backend) is kind
            assert simulation.backend.name == name
            simulation.run(2)
            assert simulation.fork().backend.name == name
            assert {simulation.fork(other).backend.name for other in ("cohort", "reference")} == {
                "cohort",
                "reference",
            }


def test_another_number_of_parameters_or_another_seed_chooses_no_other() -> None:
    for seed in range(3):
        assert Simulation(scenario(4, 4, 4), seed=seed).backend.name == "cohort"
        assert Simulation(scenario(400, 400, 400), seed=seed).backend.name == "cohort"


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cohrot", "backend: there is no 'cohrot'; did you mean 'cohort'?"),
        ("cohorts", "backend: there is no 'cohorts'; did you mean 'cohort'?"),
        ("referense", "backend: there is no 'referense'; did you mean 'reference'?"),
        ("Auto", "backend: there is no 'Auto'; did you mean 'auto'?"),
        ("gpu", "backend: there is no 'gpu'; known: auto, cohort, reference"),
        ("", "backend: there is no ''; known: auto, cohort, reference"),
    ],
)
def test_a_backend_there_is_none_of_gives_one_line_with_the_nearest(name: str, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Simulation(scenario(4), backend=name)
    assert str(caught.value) == line
    with pytest.raises(ScenarioError) as caught:
        Seeds(scenario(4), [0], backend=name)
    assert str(caught.value) == line


def test_all_known_ones_are_there() -> None:
    assert BACKENDS == ("auto", "cohort", "reference")
    assert {chosen_backend(name, system(4)) for name in BACKENDS} == {"cohort", "reference"}


def test_a_run_with_a_backend_there_is_none_of_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"there is no 'cohrot'; did you mean 'cohort'\?"):
        begin(request(backend="cohrot"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# --- runs ------------------------------------------------------------------------------------------------


CROWD = Template.from_yaml(scenario(4, 4, 4).to_yaml(), "crowd.yaml")


def request(**changes: Any) -> Request:
    """Three agents that are alike."""
    return Request(**{"template": CROWD, "steps": 8, **changes})


def run_of(found: Run | Outcome) -> Run:
    assert isinstance(found, Run)
    return found


@pytest.mark.parametrize(
    ("asked", "kept"), [("auto", "cohort"), ("cohort", "cohort"), ("reference", "reference")]
)
def test_run_json_says_what_was_chosen_and_resuming_keeps_to_it(
    asked: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(request(backend=asked), tmp_path / "run")
    assert run.directories[0].facts["backend"] == run.simulations[0].backend.name == kept
    run.train(checkpoint_every=4)
    monkeypatch.setattr(backends, "FEWEST", 100 if kept == "cohort" else 0)  # what auto would choose now
    assert Simulation(request().scenario).backend.name == ("reference" if kept == "cohort" else "cohort")
    again = run_of(resume(tmp_path / "run", 12))
    assert again.simulations[0].backend.name == kept
    assert again.simulations[0].now == 8
    again.train()
    assert again.directories[0].facts["backend"] == kept
    assert run_of(resume(tmp_path / "run", 13)).simulations[0].backend.name == kept


def test_a_run_that_ended_before_its_first_checkpoint_keeps_its_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(request(), tmp_path / "run").simulations[0].close()
    monkeypatch.setattr(backends, "FEWEST", 100)
    again = run_of(resume(tmp_path / "run"))
    assert (again.simulations[0].now, again.simulations[0].backend.name) == (0, "cohort")
    again.simulations[0].close()


def test_resuming_elsewhere_keeps_to_the_cache_that_spans_were_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another one the same seed would give other bits."""
    run = begin(request(), tmp_path / "run")
    cache = run.simulations[0].cache
    assert run.directories[0].facts["cache"] == run.simulations[0].system.cache == cache
    run.train(checkpoint_every=4)
    monkeypatch.setattr(simulations, "cache_bytes", lambda: cache + 1)
    again = run_of(resume(tmp_path / "run", 12))
    assert again.simulations[0].cache == again.simulations[0].system.cache == cache
    assert again.simulations[0].fork().cache == cache
    again.simulations[0].close()
    assert Simulation(request().scenario).cache == cache + 1


@pytest.mark.parametrize(("first", "then"), [("auto", "reference"), ("reference", "cohort")])
def test_another_backend_is_another_run(first: str, then: str, tmp_path: Path) -> None:
    begin(request(backend=first), tmp_path / "run").train()
    was = "cohort" if first == "auto" else first
    with pytest.raises(RunError, match=f"backend: {was} there, {then} asked"):
        begin(request(backend=then, steps=8), tmp_path / "run", resume_if_exists=True)


@pytest.mark.parametrize("first", ["cohort", "reference"])
def test_to_ask_for_auto_is_to_ask_for_what_it_is(first: str, tmp_path: Path) -> None:
    begin(request(backend=first), tmp_path / "run").simulations[0].close()
    again = begin(request(), tmp_path / "run", resume_if_exists=True)
    assert again.simulations[0].backend.name == first
    again.simulations[0].close()


@pytest.mark.parametrize("backend", ["auto", "cohort", "reference"])
def test_a_checkpoint_runs_on_any_backend(backend: str, tmp_path: Path) -> None:
    simulation = Simulation(scenario(4, 4, 4, 4))
    simulation.run(3)
    simulation.save(tmp_path / "saved")
    found = Simulation.load(tmp_path / "saved", backend=backend)
    assert found.backend.name == ("cohort" if backend == "auto" else backend)
    assert found.now == 3
    found.step()


def test_a_simulation_starts_again_on_the_backend_it_was_asked_to() -> None:
    for asked, name in (("auto", "cohort"), ("reference", "reference"), ("cohort", "cohort")):
        simulation = Simulation(scenario(4, 4, 4), backend=asked)
        simulation.run(2)
        simulation.reset(5)
        assert simulation.backend.name == name
        assert simulation.now == 0
