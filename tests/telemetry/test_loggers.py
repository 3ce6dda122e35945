"""The recorder of W&B, against a stand-in with the signatures of the package, which is no dependency."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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
        self.fails = False

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Log data at a step."""
        if self.fails:
            raise ConnectionError("no route\nto host")
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


def test_a_run_that_ends_before_its_result_logs_it_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last log entry is at the service, and the final evaluation was interrupted."""
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    def interrupted(*_: Any, **__: Any) -> None:
        raise OSError("broken off")

    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", "wandb"))
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
    assert [{"result/accuracy", "result/seconds"} == names for names in logged] == [False] * 4 + [True]


def test_a_service_that_fails_in_mid_run_is_logged_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    scenario = antiphon.Scenario.from_yaml(DOCUMENT.replace("RECORDER", "{kind: wandb, project: mine}"))
    with antiphon.Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run(steps=2)
        wandb.sessions[0].fails = True
        simulation.run()
        assert simulation.now == 6
    assert caplog.messages == ["recorder wandb: ConnectionError: no route to host; it logs nothing more"]


def test_a_package_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        antiphon.ScenarioError, match=r"wandb is not installed; pip install 'antiphon\[wandb\]'"
    ):
        trained("wandb", tmp_path / "run")
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
