"""Recorders of W&B and MLflow, against stand-ins with the signatures of the packages: neither is a dependency."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

import antiphon
from tests.kit.seams import EVALUATE

DOCUMENT = """
scenario: logged
env: {id: antiphon/Digits-v0}
agents: {eye: {observes: [image]}, mind: {objective: {kind: classification, target: label}}}
channels: [{from: eye, to: mind, size: 4}]
training: {batch: 2, steps: 6}
telemetry: {period: 2, recorders: [RECORDER]}
"""


class WandbRun:
    """One run of `Wandb`, as it is at the service."""

    def __init__(self, settings: dict[str, Any], step: int) -> None:
        self.id, self.settings, self.step = settings["id"], settings, step
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exit_code: int | None = None

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Log data at a step."""
        assert step is not None
        assert step >= self.step, "W&B drops what is behind its step"
        self.step = step
        self.logged.append((step, data))

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run."""
        self.exit_code = exit_code


class Wandb(ModuleType):
    """Stand-in of the package `wandb`, with the service behind it."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.sessions: list[WandbRun] = []

    def init(
        self,
        entity: str | None = None,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        config: dict[str, Any] | None = None,
        reinit: bool | str | None = None,
        resume: bool | str | None = None,
    ) -> WandbRun:
        """Begin a run, or resume that of an id."""
        before = [run for run in self.sessions if run.id == id]
        settings = {"project": project, "dir": dir, "id": id, "name": name, "config": config}
        self.sessions.append(WandbRun(settings, before[-1].step + 1 if before else 0))
        assert (reinit, resume) == ("create_new", "allow")
        return self.sessions[-1]


class Metric(NamedTuple):
    """MLflow's entity, with the order of its arguments."""

    key: str
    value: float
    timestamp: int
    step: int


class Param(NamedTuple):
    """MLflow's entity, with the order of its arguments."""

    key: str
    value: str


class Mlflow(ModuleType):
    """Stand-in of the package `mlflow`, its client, and the service behind it."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.entities = SimpleNamespace(Metric=Metric, Param=Param)
        self.experiments: list[str] = []
        self.calls: list[Sequence[Metric]] = []
        self.parameters: list[Param] = []
        self.status: list[str | None] = []
        self.fails = False

    def MlflowClient(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> Mlflow:
        """Return the client: this module itself."""
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        """Return an experiment; None where there is none."""
        found = name in self.experiments
        return SimpleNamespace(experiment_id=str(self.experiments.index(name))) if found else None

    def create_experiment(self, name: str, artifact_location: str | None = None) -> str:
        """Create an experiment, and return its id."""
        self.experiments.append(name)
        return str(len(self.experiments) - 1)

    def create_run(
        self,
        experiment_id: str,
        start_time: int | None = None,
        tags: dict[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Any:
        """Create a run."""
        self.status.append("RUNNING")
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment_id}-{run_name}"))

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Change the status of a run."""
        self.status.append(status)

    def get_metric_history(self, run_id: str, key: str) -> list[Metric]:
        """Return the values of a metric."""
        return [one for call in self.calls for one in call if one.key == key]

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[Any] = (),
        synchronous: bool | None = None,
    ) -> None:
        """Log metrics and parameters of a run in one call."""
        assert run_id == "0-run"
        if self.fails:
            raise ConnectionError("no route\nto host")
        self.parameters += params
        if metrics:
            self.calls.append(metrics)

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        """End a run."""
        self.status.append(status)


def break_off(simulation: antiphon.Simulation) -> None:
    """Break a run off after step 5."""
    if simulation.now == 5:
        raise OSError("broken off")


def trained(recorder: str, logdir: Path) -> None:
    """Train a scenario with a recorder: broken off after step 5, resumed from its checkpoint of step 3."""
    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", recorder))
    with (
        pytest.raises(OSError, match="broken off"),
        antiphon.Simulation(scenario, logdir=logdir, checkpoint_every=3) as simulation,
    ):
        simulation.run(callbacks=[break_off])
    with antiphon.Simulation.resume(logdir) as simulation:
        simulation.run()


def test_wandb_gets_one_call_for_a_row_and_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_NAME", raising=False)
    trained("{kind: wandb, project: mine}", tmp_path / "run")
    first, second = wandb.sessions
    assert first.settings == {
        "project": "mine",
        "dir": str(tmp_path / "run"),
        "id": (tmp_path / "run/wandb.id").read_text(encoding="utf-8").strip(),
        "name": "run",
        "config": {**first.settings["config"], "scenario": "logged", "seed": 0},
    }
    assert second.id == first.id
    assert [step for step, _ in first.logged] == [1, 2, 4]
    assert [step for step, _ in second.logged] == [6, 6]  # step 4 is computed again and has been logged
    assert {"agent/mind/loss", "channel/eye__to__mind/sg_loss", "run/seconds"} <= first.logged[1][1].keys()
    assert {"result/accuracy", "result/seconds"} == second.logged[-1][1].keys()
    assert (first.exit_code, second.exit_code) == (1, 0)


def test_mlflow_gets_one_call_for_a_row_and_resumes_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    trained("mlflow", tmp_path / "run")
    assert mlflow.experiments == ["logged"]
    assert [call[0].step for call in mlflow.calls] == [1, 2, 4, 6, 6]
    assert Param("seed", "0") in mlflow.parameters
    assert mlflow.status == ["RUNNING", "KILLED", "RUNNING", "FINISHED"]
    assert "agent/mind/loss" in {metric.key for metric in mlflow.calls[0]}


@pytest.mark.parametrize("recorder", ["wandb", "mlflow"])
def test_a_run_that_ends_before_its_result_logs_it_when_it_is_resumed(
    recorder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last log entry is at the service, and the final evaluation was interrupted."""
    wandb, mlflow = Wandb(), Mlflow()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)

    def interrupted(*_: Any, **__: Any) -> None:
        raise OSError("broken off")

    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", recorder))
    with monkeypatch.context() as broken:
        broken.setattr(EVALUATE, interrupted)
        with (
            pytest.raises(OSError, match="broken off"),
            antiphon.Simulation(scenario, logdir=tmp_path / "run") as simulation,
        ):
            simulation.run()
    with antiphon.Simulation.resume(tmp_path / "run") as simulation:
        simulation.run()
    logged = [metrics.keys() for session in wandb.sessions for _, metrics in session.logged]
    logged += [{metric.key for metric in call} for call in mlflow.calls]
    assert [{"result/accuracy", "result/seconds"} == names for names in logged] == [False] * 4 + [True]


def test_a_service_that_fails_in_mid_run_is_logged_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", "{kind: mlflow, project: mine}"))
    with antiphon.Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run(steps=2)
        mlflow.fails = True
        simulation.run()
        assert simulation.now == 6
    assert caplog.messages == ["recorder mlflow: ConnectionError: no route to host; it logs nothing more"]


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(
        antiphon.ScenarioError, match=rf"{kind} is not installed; pip install 'antiphon\[{kind}\]'"
    ):
        trained(kind, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overwriting_begins_another_run_of_the_service_and_a_missing_package_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", "wandb"))
    wandb, identities = Wandb(), []
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for _ in range(2):
        with antiphon.Simulation(scenario, logdir=tmp_path / "run", exist="overwrite") as simulation:
            simulation.run()
        identities.append((tmp_path / "run/wandb.id").read_text(encoding="utf-8"))
    assert identities[0] != identities[1]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(antiphon.ScenarioError, match="wandb is not installed"):
        antiphon.Simulation(scenario, logdir=tmp_path / "run", exist="overwrite")
    assert (tmp_path / "run/result.json").exists()
