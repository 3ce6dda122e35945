"""The choice of a backend: by name, kept by forks, runs and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antiphon import ScenarioError, Simulation
from tests.kit.commands import Commands
from tests.reference.backend import ReferenceBackend, reference

BACKENDS = ("cohort", "native")
RUN = "run digits-mlp --set depth=2 --set width=8 --set batch=4 --name run --logdir ."


def test_a_simulation_has_the_backend_it_is_given_and_forks_have_any() -> None:
    assert Simulation("digits-mlp").running.backend.name == "cohort"
    for name in BACKENDS:
        with Simulation("digits-mlp", backend=name) as simulation:
            assert simulation.running.backend.name == simulation.fork().running.backend.name == name
            for other in BACKENDS:
                assert simulation.fork(other).running.backend.name == other
            assert simulation.fork(reference).fork().running.backend.name == "reference"


def test_a_backend_of_a_users_own_is_a_function_and_has_no_run_directory(here: Path) -> None:
    with Simulation("digits-mlp", backend=reference) as simulation:
        simulation.set("*.learning_rate", 0.1)  # builds the system, and its backend, again
        assert isinstance(simulation.running.backend, ReferenceBackend)
    with pytest.raises(ScenarioError, match="logdir: a run is resumed with the backend"):
        Simulation("digits-mlp", backend=reference, logdir="run")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", BACKENDS)
def test_run_json_has_the_backend_and_resuming_keeps_to_it(name: str, here: Path, cli: Commands) -> None:
    """Also where the run ended before its first checkpoint."""
    cli(RUN, f"--steps 4 --backend {name}")
    assert json.loads((here / "run/run.json").read_text())["backend"] == name
    with Simulation.resume("run") as again:
        assert (again.running.backend.name, again.now) == (name, 4)
    other = next(one for one in BACKENDS if one != name)
    line = cli.refused(RUN, f"--steps 4 --backend {other} --exist resume")
    assert f"backend is {name}, not {other}" in line
    Simulation("digits-mlp", backend=name, logdir="early").close()
    with Simulation.resume("early") as again:
        assert (again.running.backend.name, again.now) == (name, 0)
