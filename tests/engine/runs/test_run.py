"""Runs: their directory, stopping, going on to the same bits, and refusing what is not theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.observers import Scores
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.run_loop import Outcome
from antiphon.engine.runs.run_writer import over
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.engine import Engine
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.files import finite, write_json
from antiphon.scenarios import Scenario, Template, load
from tests.recorded import metrics

TEMPLATE = Template.from_yaml(
    load("digits-mlp").text + "telemetry: {every: 5, histograms: true}\n", "tiny.yaml"
)


def request(**changes: Any) -> Request:
    values = {"depth": 3, "width": 8, "batch": 16, **changes.pop("values", {})}
    return Request(**{"template": TEMPLATE, "steps": 24, "values": values, **changes})


def stop_at(step: int, number: int = signal.SIGINT) -> Any:
    def on_step(now: int, scores: Any) -> None:
        if now == step:
            os.kill(os.getpid(), number)

    return on_step


def same_but_for_time(one: Any, other: Any) -> bool:
    return {**one, "seconds": 0, "run_dir": ""} == {**other, "seconds": 0, "run_dir": ""}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that is over, and its result: to be read only."""
    path = tmp_path_factory.mktemp("done") / "run"
    return path, begin(request(), path).train()[0].result


def test_a_run_leaves_the_directory_of_the_contract(tmp_path: Path) -> None:
    (outcome,) = begin(request(seed=3, variant="local"), tmp_path / "run").train(checkpoint_every=10)
    directory = RunDirectory.open(tmp_path / "run")
    assert outcome.exit_code == 0
    assert outcome.result == directory.result
    assert Scenario.from_yaml(directory.document) == request(variant="local").scenario
    assert [path.name for path in directory.checkpoints] == ["step-000000020", "step-000000024"]
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    facts = directory.facts
    assert (facts["exit"], facts["step"], facts["steps"], facts["seed"]) == ("done", 24, 24, 3)
    assert (facts["variant"], facts["values"]["gradient"], facts["values"]["steps"]) == ("local", "local", 24)
    assert facts["template"] == {"source": "tiny.yaml", "text": TEMPLATE.text}
    assert {"python", "torch", "antiphon"} <= facts["versions"].keys()
    assert facts["started"] <= facts["finished"]
    assert not list((tmp_path / "run").rglob(".*"))


def test_the_result_says_what_the_contract_says(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    result = done[1]
    assert [result[key] for key in ("scenario", "seed", "steps", "exit")] == ["digits-mlp", 0, 24, "done"]
    assert result["readout"] == "n2"
    assert result["accuracy"] == result["agents"]["n2"]["accuracy"]
    assert 0 <= result["accuracy"] <= 1
    assert list(result["agents"]) == ["n0", "n1", "n2"]
    assert result["agents"]["n0"]["updates"] == 24
    assert list(result["channels"]) == ["n0->n1", "n1->n2"]
    assert {"cosine", "norm_ratio", "sg_loss"} <= result["channels"]["n0->n1"].keys()
    locked = begin(request(variant="locked"), tmp_path / "locked").train()[0].result
    assert locked["channels"]["n0->n1"]["cosine"] is None
    assert request().outcome(tmp_path / "run") is None
    assert request().outcome(done[0]) == Outcome("done", result=result)


def test_messages_that_nothing_reads_are_released_between_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `training.sweep`; at steps of figures they are kept."""
    kept: list[bool] = []
    tick = Engine.tick

    def noted(self: Engine, *arguments: Any, keep: bool = True) -> None:
        kept.append(keep)
        tick(self, *arguments, keep=keep)

    monkeypatch.setattr(Engine, "tick", noted)
    run = begin(request(steps=12), tmp_path / "run")
    every = run.simulations[0].scenario.telemetry.every
    run.train(lambda step, scores: None)
    assert kept == [step in (1, 12) or step % every == 0 for step in range(1, 13)]


def test_files_are_there_from_the_first_step(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def on_step(step: int, scores: Any) -> None:
        if not seen:
            seen.append({path.name.partition(".out")[0] for path in (tmp_path / "run").iterdir()})
            assert RunDirectory.open(tmp_path / "run").facts["exit"] == "running"

    begin(request(steps=2), tmp_path / "run").train(on_step)
    assert {"scenario.yaml", "run.json", "metrics.csv", "events"} <= seen[0]


def test_the_return_on_the_way_is_that_of_finished_episodes(tmp_path: Path) -> None:
    """As evaluations have it: not that of windows, with rewards weighed and discounted."""
    lines: dict[int, dict[str, float]] = {}

    def on_step(step: int, scores: Callable[[], Scores]) -> None:
        if step in (4, 120):
            lines[step] = scores().get("motor", {})

    values = {"batch": 4, "width": 4, "unroll": 4}
    begin(Request(template=load("cartpole-team"), steps=120, values=values), tmp_path / "run").train(on_step)
    assert "loss" in lines[4]
    assert "return" not in lines[4]  # no pole has fallen
    assert lines[120]["return"] > 5


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(tmp_path: Path, number: int, code: int) -> None:
    before = signal.getsignal(number)
    (outcome,) = begin(request(), tmp_path / "run").train(stop_at(7, number))
    directory = RunDirectory.open(tmp_path / "run")
    assert outcome.exit_code == code
    assert (outcome.result["steps"], outcome.result["exit"]) == (7, "stopped")
    assert directory.facts["exit"] == "stopped"
    assert [path.name for path in directory.checkpoints] == ["step-000000007"]
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_it_at_once_and_is_noted(tmp_path: Path) -> None:
    def twice(step: int, scores: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        begin(request(), tmp_path / "run").train(twice)
    facts = RunDirectory.open(tmp_path / "run").facts
    assert facts["exit"] == "stopped"
    assert facts["error"] == "stopped at once by a second signal, without a checkpoint"


def test_going_on_comes_to_the_same_bits(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    whole, result = done
    begin(request(), tmp_path / "parts").train(stop_at(7))
    second = resume(tmp_path / "parts")
    assert isinstance(second, Run)
    second.train(stop_at(16))
    parts = begin(request(), tmp_path / "parts", resume_if_exists=True).train()[0].result
    assert same_but_for_time(result, parts)
    assert metrics(whole) == metrics(tmp_path / "parts")
    state = "checkpoints/step-000000024/state.safetensors"
    assert (whole / state).read_bytes() == (tmp_path / "parts" / state).read_bytes()


def test_a_run_that_crashed_goes_on_from_its_newest_checkpoint(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def crash(step: int, scores: Any) -> None:
        if step == 13:
            raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError):
        begin(request(), tmp_path / "run").train(crash, checkpoint_every=10)
    directory = RunDirectory.open(tmp_path / "run")
    facts = directory.facts
    assert (facts["exit"], facts["error"], facts["step"]) == ("failed", "by nought", 13)
    with pytest.raises(RunError, match=r"--steps: 9, but .* has done 10 already"):
        resume(tmp_path / "run", steps=9)
    going_on = resume(tmp_path / "run")
    assert isinstance(going_on, Run)
    assert going_on.simulations[0].now == 10

    def noted(step: int, scores: Any) -> None:
        facts = RunDirectory.open(tmp_path / "run").facts
        assert (facts["exit"], facts["step"], facts["error"]) == ("running", 10, None)

    result = going_on.train(noted)[0].result
    assert same_but_for_time(done[1], result)
    assert metrics(done[0]) == metrics(tmp_path / "run")


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    begin(request(), tmp_path / "run").simulations[0].close()
    again = begin(request(), tmp_path / "run", resume_if_exists=True)
    assert again.simulations[0].now == 0
    assert again.train()[0].exit_code == 0


def test_resume_moves_the_stopping_point_but_not_the_schedules(tmp_path: Path) -> None:
    begin(request(), tmp_path / "run").train()
    longer = resume(tmp_path / "run", steps=30)
    assert isinstance(longer, Run)
    assert longer.train()[0].result["steps"] == 30
    directory = RunDirectory.open(tmp_path / "run")
    assert Scenario.from_yaml(directory.document).training.steps == 24
    done = resume(tmp_path / "run")
    assert isinstance(done, Outcome)
    assert done.result == directory.result
    with pytest.raises(RunError, match=r"--steps: 10, but .* has done 30 already"):
        resume(tmp_path / "run", steps=10)


def test_figures_are_written_once_also_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    begin(request(), tmp_path / "run").train(stop_at(12))
    second = resume(tmp_path / "run")
    assert isinstance(second, Run)
    second.train()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    steps = [event.step for event in events.Scalars("agent/n2/loss")]
    assert steps == [1, 5, 10, 15, 20, 24]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"values": {"width": 9}}, "width: 8 there, 9 asked"),
        ({"seed": 1}, "seed: 0 there, 1 asked"),
        ({"variant": "locked"}, "coupling: decoupled there, locked asked"),
        ({"steps": 25}, "steps: 24 there, 25 asked"),
    ],
)
def test_another_run_is_not_continued(tmp_path: Path, changes: dict[str, Any], difference: str) -> None:
    begin(request(), tmp_path / "run").simulations[0].close()
    with pytest.raises(RunError, match=difference):
        begin(request(**changes), tmp_path / "run", resume_if_exists=True)


def test_a_changed_template_is_another_run(tmp_path: Path) -> None:
    begin(request(), tmp_path / "run").simulations[0].close()
    changed = Template.from_yaml(TEMPLATE.text.replace("norm: batch", "norm: layer"), "tiny.yaml")
    with pytest.raises(RunError, match=r"not what tiny\.yaml says now"):
        begin(request(template=changed), tmp_path / "run", resume_if_exists=True)


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty; choose another name"):
        begin(request(), tmp_path / "run")
    with pytest.raises(RunError, match="no run there"):
        begin(request(), tmp_path / "run", resume_if_exists=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "mine.txt"]


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert begin(request(steps=2), tmp_path / "run").train()[0].exit_code == 0


def test_a_directory_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/run: cannot be written \(Not a directory\)"):
        begin(request(), tmp_path / "file/run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_divergence_keeps_what_was_learned_and_says_who_and_when(tmp_path: Path) -> None:
    (outcome,) = begin(request(values={"lr": 1e30}), tmp_path / "run").train()
    directory = RunDirectory.open(tmp_path / "run")
    assert outcome.exit_code == 3
    assert outcome.error is not None
    assert "n1" in outcome.error
    assert "step" in outcome.error
    assert (directory.facts["exit"], directory.facts["error"]) == ("diverged", outcome.error)
    assert directory.result is not None
    assert directory.result["exit"] == "diverged"
    step = directory.facts["step"]
    assert [path.name for path in directory.checkpoints] == [f"step-{step:09d}"]
    with Simulation.load(tmp_path / "run") as simulation:
        assert simulation.now == step
        parameters = simulation.agents["n0"].parameters.values()
        assert all(bool(p.isfinite().all()) for p in parameters)
    with pytest.raises(DivergenceError, match="would do so again"):
        resume(tmp_path / "run")


def test_an_unknown_device_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no device 'tpu9' here"):
        begin(request(device="tpu9"), tmp_path / "run")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ScenarioError, match=r"^device: there is no device 'meta' here; use cpu"):
        Simulation("digits-mlp", device="meta")


def test_the_commit_of_the_checkout_is_in_run_json(done: tuple[Path, dict[str, Any]]) -> None:
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        pytest.skip("no checkout")
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True)
    assert RunDirectory.open(done[0]).facts["git"] == commit.stdout.strip()


def test_json_holds_null_for_what_is_not_finite(tmp_path: Path) -> None:
    assert finite({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": [None, 1.0], "b": None}
    write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None}
    with pytest.raises(RunError, match="cannot be written"):
        write_json(tmp_path / "missing/a.json", {})


def test_a_run_whose_files_cannot_be_made_is_noted_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunError("no room on the disk")

    monkeypatch.setattr("antiphon.engine.runs.run_writer.CsvRecorder", fail)
    with pytest.raises(RunError, match="no room on the disk"):
        begin(request(), tmp_path / "run").train()
    facts = RunDirectory.open(tmp_path / "run").facts
    assert (facts["exit"], facts["error"], facts["step"]) == ("failed", "no room on the disk", 0)


def result_of_run(path: Path, name: str = "digits-mlp", **values: Any) -> dict[str, Any]:
    scenario = load(name).resolve(values={"steps": 4, **values})
    with Simulation(scenario, logdir=path) as simulation:
        simulation.run()
    found: dict[str, Any] = json.loads((path / "result.json").read_text(encoding="utf-8"))
    return found


def test_a_classifier_has_accuracy_and_no_error_or_bits(tmp_path: Path) -> None:
    found = result_of_run(tmp_path / "run", depth=2, width=8, batch=16)
    assert found["accuracy"] == found["agents"]["n1"]["accuracy"] >= 0
    assert (found["error"], found["bits"], found["env"]) == (None, None, {})
    assert not {"accuracy", "loss"} & found["agents"]["n0"].keys()


def test_a_regression_has_an_error(tmp_path: Path) -> None:
    found = result_of_run(
        tmp_path / "run", "hyperplane", loss="regression", target="onehot", size=2, points=20
    )
    (name,) = [name for name, agent in found["agents"].items() if "loss" in agent]
    assert found["error"] is None  # of the test split, which there is none of
    assert found["agents"][name]["error"] is None
    assert "accuracy" not in found["agents"][name]


def test_what_the_environment_says_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"solved": 3.0, "difficulty": float("nan")}
    monkeypatch.setattr("antiphon.envs.base.TorchVectorEnv.figures", lambda env: said)
    found = result_of_run(tmp_path / "run", depth=2, width=8, batch=16)
    assert found["env"] == {"solved": 3.0, "difficulty": None}


def test_means_are_over_the_readouts_that_have_it() -> None:
    agents: dict[str, dict[str, Any]] = {
        "a": {"bits": 1.0},
        "b": {"bits": 3.0, "error": 0.5},
        "c": {"error": None},
    }
    assert over(["a", "b", "c"], "bits", agents) == 2.0
    assert over(["a", "b", "c"], "error", agents) == 0.5
    assert over(["a", "c"], "accuracy", agents) is None
