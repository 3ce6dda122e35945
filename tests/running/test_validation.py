"""Evaluation during the training, callbacks of the loop, and measurements that stay with a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antiphon import Scenario, ScenarioWarning, Simulation, load
from antiphon.engine.live_system import LiveSystem
from antiphon.running.callbacks import Callback, Outcome
from antiphon.running.loop import train
from antiphon.running.run import Run
from antiphon.telemetry import read_run
from antiphon.telemetry.history import History
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit import seams
from tests.kit.commands import Commands
from tests.kit.running import evaluation_by_updates
from tests.running.left import acting, assert_same_run, checkpoints, ended, facts, result, signalled

EVALUATE: dict[str, Any] = {"evaluate": {"period": 4}}
AGENTS: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
CHANNELS = [{"from": "a", "to": "b", "size": 16, "link": {"delay": 1}, "gradient": {"kind": "linear"}}]
POLICY = {
    "b": {"observes": ["observation"], "acts": True, "objective": {"kind": "ppo"}, "clock": {"unroll": 4}}
}
POLE = {"id": "antiphon/CartPole-v0"}


def scene(agents: dict[str, Any] = AGENTS, env: Any = None, **training: Any) -> Scenario:
    channels = CHANNELS if agents is AGENTS else ()
    return scenario_of(agents, channels, env, telemetry={"period": 3}, **{"steps": 16, **training})


def parameters(simulation: Simulation) -> Iterator[torch.Tensor]:
    return (value for agent in simulation.agents.values() for value in agent.parameters.values())


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation accuracies that rise to a best at step 8 and fall, of seed 1 at step 16; a new system has none."""

    def accuracy(updates: int, seed: int) -> float:
        return 1 - abs(updates - (16 if seed == 1 else 8)) / 100

    monkeypatch.setattr(seams.EVALUATE, evaluation_by_updates("b", accuracy))


# --- evaluated ---------------------------------------------------------------------------------------------


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("agents", "env", "settings"),
    [
        (AGENTS, None, {}),
        (AGENTS, None, {"backend": "native"}),
        (AGENTS, None, {"parts": 2}),
        (POLICY, POLE, {}),
    ],
    ids=["cohort", "native", "parts", "policy"],
)
def test_it_changes_no_bit_of_the_training(
    agents: dict[str, Any], env: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    """With sizes at which a cut into parts changes none either."""
    plain = Simulation(scene(agents, env, batch=16), **settings)
    evaluated = Simulation(scene(agents, env, batch=16, **EVALUATE), logdir=tmp_path / "run", **settings)
    with plain, evaluated:
        plain.run(9)
        evaluated.run(9)
        assert all(map(torch.equal, parameters(plain), parameters(evaluated)))
        metric = "return" if agents is POLICY else "accuracy"
        steps, values = History.read(tmp_path / "run/metrics.csv").of("b", f"validation_{metric}")
        assert steps.tolist() == [4, 8]
    with Simulation(scene(agents, env, batch=16), **settings) as stepped:
        stepped.run(8)
        assert stepped.evaluate("validation").agents["b"][metric] == values[1]


def test_it_is_in_tensorboard_the_tab_the_report_and_the_result(tmp_path: Path, cli: Commands) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from antiphon.telemetry import read_run

    with Simulation(
        scene(evaluate={"period": 4, "keep_best": "accuracy"}), logdir=tmp_path / "run"
    ) as simulation:
        simulation.run()
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("agent/b/validation_accuracy")] == [4, 8, 12, 16]
    assert read_run(tmp_path / "run").metrics["agent", "validation_loss"].steps.tolist() == [4, 8, 12, 16]
    cli("report", tmp_path / "run", "-o", tmp_path / "report.html")
    assert "validation_accuracy" in (tmp_path / "report.html").read_text(encoding="utf-8")
    found = result(tmp_path / "run")
    agent = found["agents"]["b"]
    scores = {"accuracy": agent["validation_accuracy"], "loss": agent["validation_loss"]}
    assert found["evaluated"] == {"split": "validation", **scores}
    assert found["best"] == facts(tmp_path / "run")["best"]


# --- kept and stopped --------------------------------------------------------------------------------------

STOPPED = {"evaluate": {"period": 4, "keep_best": "accuracy", "patience": {"b.loss": 2}}}
REASON = "validation b.loss has not improved in 2 evaluations (best: 0 at step 8)"


@pytest.mark.long
@pytest.mark.cases(1)
@pytest.mark.parametrize("crash", [9, pytest.param(15, marks=pytest.mark.long)])
def test_a_run_that_was_killed_keeps_and_stops_as_if_it_had_not_been(
    crash: int, curve: None, tmp_path: Path, cli: Commands
) -> None:
    runs = [tmp_path / name for name in ("whole", "run")]
    whole, killed = (Simulation(scene(steps=40, **STOPPED), logdir=run, checkpoint_every=6) for run in runs)
    with whole:
        whole.run()
    with (
        pytest.raises(KeyboardInterrupt),
        killed,
        acting(crash, signalled(2, 2)),
    ):  # the second ends it at once
        killed.run()
    cli("resume", runs[1], "--checkpoint-every 6")
    assert_same_run(*runs)
    for run in runs:
        assert (ended(run), facts(run)["reason"]) == (("done", 16, None), REASON)
        assert (checkpoints(run), facts(run)["best"]) == (
            [12, 16],
            {"step": 8, "metric": "accuracy", "value": 1.0},
        )
        with Simulation.load(run / "checkpoints/best") as best:
            assert best.now == 8
    assert "is done" in (cli("resume", runs[1]), cli.err)[1]
    with Simulation.resume(runs[1]) as resumed:
        assert len(resumed.run()) == 0
        resumed.run(2)
    assert ended(runs[1])[:2] == ("done", 18)


def test_the_best_checkpoint_is_evaluated_and_exported(curve: None, here: Path, cli: Commands) -> None:
    (here / "mine.yaml").write_text(scene(steps=40, **STOPPED).to_yaml())
    out = cli("run mine.yaml --name x --logdir .")
    assert f"stopped      {REASON}" in out
    assert cli.json("evaluate x --checkpoint best")["steps"] == 8
    cli("export x best.safetensors --checkpoint best")
    assert "no checkpoint 'bset'" in cli.refused("evaluate x --checkpoint bset")
    assert cli("run mine.yaml --name x --logdir . --exist resume").startswith("\nscene · seed 0 · 16 steps")


@pytest.mark.long
def test_a_seed_that_stops_early_ends_alone(curve: None, here: Path, cli: Commands) -> None:
    (here / "mine.yaml").write_text(scene(steps=40, **STOPPED).to_yaml())
    several = "run mine.yaml --name x --seeds 2 --logdir . --checkpoint-every 6"
    with acting(20, signalled(2, 2)):
        assert cli.code(several) == 130
    assert ended(here / "x-s0") == ("done", 16, None)
    found = cli.json(several, "--exist resume")
    assert [one["steps"] for one in found["seeds"]] == [16, 24]
    assert [facts(here / f"x-s{seed}")["best"]["step"] for seed in (0, 1)] == [8, 16]
    rows = History.read(
        here / "x-s0/metrics.csv"
    ).rows()  # a run may end with every evaluation: each is a whole entry
    assert [row["step"] for row in rows if "a->b.injection_norm" in row] == [1, 3, 4, 6, 8, 9, 12, 15, 16]


# --- callbacks and the history -----------------------------------------------------------------------------


class Log:
    """Records the events of a run, and stops it at a step."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def on_evaluate(self, simulation: Simulation, found: object) -> None:
        self.events.append(("evaluate", simulation.now))

    def on_step(self, simulation: Simulation) -> None:
        if simulation.now == 5:
            simulation.stop("enough")


def test_callbacks_are_called_in_order_and_stop_the_run(curve: None, tmp_path: Path) -> None:
    log, steps = Log(), list[int]()
    with Simulation(scene(**EVALUATE), logdir=tmp_path / "run", checkpoint_every=3) as simulation:
        history = simulation.run(callbacks=[log, lambda one: steps.append(one.now)])
        assert steps == [1, 2, 3, 4, 5]
        assert log.events == [("evaluate", 4)]
        assert (ended(tmp_path / "run"), facts(tmp_path / "run")["reason"]) == (("done", 5, None), "enough")
        simulation.step()
        assert steps[-1] == 5
    assert [entry["step"] for entry in history.rows()] == [1, 3, 4]
    assert history.rows()[2]["b.validation_accuracy"] == 0.96


# --- the loop --------------------------------------------------------------------------------------------


SCENARIO = load("digits-mlp").resolve(None, {"depth": 2, "width": 8, "batch": 16, "steps": 12})


class Told(Callback):
    """Records the calls that a callback gets."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, running: LiveSystem) -> None:
        self.calls.append(("start", running.now))

    def step(self, running: LiveSystem) -> None:
        self.calls.append(("step", running.now))

    def end(self, running: LiveSystem, outcome: Outcome) -> None:
        self.calls.append(("end", running.seed, outcome.status, outcome.error))


def test_callbacks_follow_the_loop() -> None:
    with Simulation(SCENARIO) as simulation:
        log = Told()
        assert train([Run(simulation.running)], 2, [log]) == [Outcome("done")]
        assert log.calls == [("start", 0), ("step", 1), ("step", 2), ("end", 0, "done", None)]
        assert simulation.until == simulation.scenario.training.steps
        simulation.run(steps=0)


def test_the_end_names_agents_that_learned_nothing() -> None:
    late = {"observes": ["image"], "objective": CLASSIFY, "clock": {"period": 50, "phase": 49}}
    scenario = scenario_of({"a": {"observes": ["image"], "objective": CLASSIFY}, "b": late})
    line = "^b: took no optimiser step, or had no target, in 5 steps$"
    with Simulation(scenario) as simulation, pytest.warns(ScenarioWarning, match=line):
        simulation.run(5)


# --- measurements ----------------------------------------------------------------------------------------


ABLATE = "--examples 40 --ablate"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=4)
    return tmp_path / "run"


def kept(run: Path, kind: str = "zero") -> Any:
    """What is kept of an ablation of a run."""
    return json.loads((run / "measured.json").read_text(encoding="utf-8")).get(f"ablation_{kind}")


@pytest.mark.long
def test_an_ablation_is_kept_and_shown_in_the_tab_and_the_run_goes_on(run: Path, cli: Commands) -> None:
    told = cli.json("evaluate", run, ABLATE, "zero")["ablation"]
    assert kept(run) == {"step": 4, "split": "test", **told}
    shown = read_run(run)
    series = shown.metrics["channel", "ablation_zero"]
    assert series.steps.tolist() == [4]
    names = [channel["name"] for channel in shown.graph["channels"]]
    losses = [told["readouts"][name]["loss"]["value"] for name in names]
    np.testing.assert_allclose(series.values[0], losses, rtol=1e-6)
    assert shown.metrics["channel", "age"].steps.tolist() == [1, 4], "what was there stays"
    cli("resume", run, "--steps 6")
    metrics = read_run(run).metrics
    assert metrics["channel", "ablation_zero"].steps.tolist() == [4]
    assert metrics["channel", "age"].steps.tolist() == [1, 4, 6]
