"""The choice of a backend: by name, kept by forks, runs and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import BACKENDS
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Template
from tests.engine.scenes import CLASSIFY, scenario_of

AGENT = {"observes": ["left_half"], "objective": CLASSIFY, "network": {"kind": "mlp", "hidden": [4]}}
CROWD = scenario_of({f"n{i}": AGENT for i in range(3)}, batch=4, steps=6)
TEMPLATE = Template.from_yaml(CROWD.to_yaml(), "crowd.yaml")


def test_a_simulation_has_the_backend_it_is_given_and_forks_have_any() -> None:
    assert Simulation(CROWD).backend.name == "cohort"
    for name in BACKENDS:
        with Simulation(CROWD, backend=name) as simulation:
            assert simulation.backend.name == name
            simulation.run(2)
            assert simulation.fork().backend.name == name
            for other in BACKENDS:
                assert simulation.fork(other).backend.name == other


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cohrot", "backend: there is no 'cohrot'; did you mean 'cohort'?"),
        ("gpu", "backend: there is no 'gpu'; known: cohort, native, reference"),
        ("", "backend: there is no ''; known: cohort, native, reference"),
    ],
)
def test_a_backend_there_is_none_of_gives_one_line_and_leaves_nothing(
    name: str, line: str, tmp_path: Path
) -> None:
    for make in (
        lambda: Simulation(CROWD, backend=name),
        lambda: Seeds(CROWD, [0], backend=name),
        lambda: begin(Request(template=TEMPLATE, steps=8, backend=name), tmp_path / "run"),
    ):
        with pytest.raises(ScenarioError) as caught:
            make()
        assert str(caught.value).endswith(line)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BACKENDS)
def test_run_json_has_the_backend_and_resuming_keeps_to_it(name: str, tmp_path: Path) -> None:
    request = Request(template=TEMPLATE, steps=8, backend=name)
    run = begin(request, tmp_path / "run")
    assert run.directories[0].facts["backend"] == run.simulations[0].backend.name == name
    run.train(checkpoint_every=4)
    again = resume(tmp_path / "run", 12)
    assert isinstance(again, Run)
    assert (again.simulations[0].backend.name, again.simulations[0].now) == (name, 8)
    again.simulations[0].close()
    other = next(one for one in ("cohort", "reference") if one != name)
    with pytest.raises(RunError, match=f"backend: {name} there, {other} asked"):
        begin(Request(template=TEMPLATE, steps=8, backend=other), tmp_path / "run", resume_if_exists=True)


def test_a_run_that_ended_before_its_first_checkpoint_keeps_its_backend(tmp_path: Path) -> None:
    begin(Request(template=TEMPLATE, steps=8, backend="reference"), tmp_path / "run").simulations[0].close()
    again = resume(tmp_path / "run")
    assert isinstance(again, Run)
    assert (again.simulations[0].now, again.simulations[0].backend.name) == (0, "reference")
    again.simulations[0].close()
