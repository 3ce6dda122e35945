"""Backends: their names, the line for a name that there is not, and that a run keeps the one it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.run_loop import Outcome
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import BACKENDS, ReferenceBackend, StackedBackend, checked_backend
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Scenario, Template
from tests.engine.scenes import CLASSIFY, scenario_of


def scenario(*widths: int, **training: Any) -> Scenario:
    """Agents of these widths, who tell nobody: those of one width are alike."""
    own = {"observes": ["left_half"], "objective": CLASSIFY}
    agents = {
        f"n{i}": {**own, "network": {"kind": "mlp", "norm": "none", "hidden": [width]}}
        for i, width in enumerate(widths)
    }
    return scenario_of(agents, **{"batch": 4, "steps": 6, **training})


# --- names -----------------------------------------------------------------------------------------------


def test_a_simulation_has_the_backend_it_is_given() -> None:
    for widths in ((4, 5), (4, 4, 4, 4)):
        for name, kind in (
            ("cohort", StackedBackend),
            ("native", StackedBackend),
            ("reference", ReferenceBackend),
        ):
            simulation = Simulation(scenario(*widths), backend=name)
            assert type(simulation.backend) is kind
            assert simulation.backend.name == name
            simulation.run(2)
            assert simulation.fork().backend.name == name
            for other in BACKENDS:
                assert simulation.fork(other).backend.name == other


def test_the_stacked_engine_is_the_default_however_few_are_alike() -> None:
    for widths in ((4,), (4, 5, 6), (4, 4, 4)):
        simulation = Simulation(scenario(*widths))
        assert type(simulation.backend) is StackedBackend
        assert simulation.backend.name == "cohort"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cohrot", "backend: there is no 'cohrot'; did you mean 'cohort'?"),
        ("cohorts", "backend: there is no 'cohorts'; did you mean 'cohort'?"),
        ("referense", "backend: there is no 'referense'; did you mean 'reference'?"),
        ("auto", "backend: there is no 'auto'; known: cohort, native, reference"),
        ("gpu", "backend: there is no 'gpu'; known: cohort, native, reference"),
        ("", "backend: there is no ''; known: cohort, native, reference"),
    ],
)
def test_a_backend_there_is_none_of_gives_one_line_with_the_nearest(name: str, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Simulation(scenario(4), backend=name)
    assert str(caught.value) == line
    with pytest.raises(ScenarioError) as caught:
        Seeds(scenario(4), [0], backend=name)
    assert str(caught.value) == line


def test_there_are_three() -> None:
    assert BACKENDS == ("cohort", "native", "reference")
    assert [checked_backend(name) for name in BACKENDS] == list(BACKENDS)


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


@pytest.mark.parametrize("name", BACKENDS)
def test_run_json_has_the_backend_and_resuming_keeps_to_it(name: str, tmp_path: Path) -> None:
    run = begin(request(backend=name), tmp_path / "run")
    assert run.directories[0].facts["backend"] == run.simulations[0].backend.name == name
    run.train(checkpoint_every=4)
    again = run_of(resume(tmp_path / "run", 12))
    assert again.simulations[0].backend.name == name
    assert again.simulations[0].now == 8
    again.train()
    assert again.directories[0].facts["backend"] == name
    assert run_of(resume(tmp_path / "run", 13)).simulations[0].backend.name == name


def test_a_run_that_ended_before_its_first_checkpoint_keeps_its_backend(tmp_path: Path) -> None:
    begin(request(backend="reference"), tmp_path / "run").simulations[0].close()
    again = run_of(resume(tmp_path / "run"))
    assert (again.simulations[0].now, again.simulations[0].backend.name) == (0, "reference")
    again.simulations[0].close()


@pytest.mark.parametrize(("first", "then"), [("cohort", "reference"), ("reference", "cohort")])
def test_another_backend_is_another_run(first: str, then: str, tmp_path: Path) -> None:
    begin(request(backend=first), tmp_path / "run").train()
    with pytest.raises(RunError, match=f"backend: {first} there, {then} asked"):
        begin(request(backend=then, steps=8), tmp_path / "run", resume_if_exists=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpoint_runs_on_any_backend(backend: str, tmp_path: Path) -> None:
    simulation = Simulation(scenario(4, 4, 4, 4))
    simulation.run(3)
    simulation.save(tmp_path / "saved")
    found = Simulation.load(tmp_path / "saved", backend=backend)
    assert found.backend.name == backend
    assert found.now == 3
    found.step()
