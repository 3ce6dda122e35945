"""Runs of several seeds, in one program and in directories of their own: stopped, killed, diverging, gone on with to the same bits."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor, nn

from antiphon import DivergenceError, Population, Scenario, Simulation, load
from tests.contracts.builders import levels
from tests.contracts.twins import TOLERANCE, differences
from tests.contracts.twins import facts as facts_of
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of
from tests.kit.commands import Commands, run_command
from tests.kit.recorded import metrics
from tests.kit.running import newest_losses, state_of
from tests.running.left import (
    TEXT,
    acting,
    assert_same_run,
    checkpoints,
    ended,
    facts,
    poison,
    result,
    signalled,
)


class Walk(VectorEnv[Any, Any, Any]):
    """Random walks from starts that the seed chooses, which never end."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = Box(-100.0, 100.0, (2,), np.float32)
        self.single_action_space = Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.reset()

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.generator, self.clock = np.random.default_rng(seed), 0
        self.at = self.normal()
        return self.at.copy(), {}

    def normal(self) -> Any:
        return self.generator.normal(size=(self.num_envs, 2)).astype(np.float32)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.clock += 1
        self.at += self.normal()
        never = np.zeros(self.num_envs, bool)
        return self.at.copy(), self.at.sum(1), never, never, {}

    def state_dict(self) -> dict[str, Any]:
        generator = repr(self.generator.bit_generator.state)
        return {"at": torch.from_numpy(self.at.copy()), "clock": self.clock, "generator": generator}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.clock = state["at"].numpy().copy(), state["clock"]
        self.generator.bit_generator.state = eval(state["generator"])


def walking() -> Scenario:
    """An agent that sees where the walks are tells another, which has the reward to learn and hears itself."""
    network = {"kind": "mlp", "hidden": [5]}
    goal = {"kind": "regression", "target": "reward"}
    agents = {
        "a": {"observes": ["observation"], "network": network},
        "b": {"network": network, "objective": goal},
    }
    channels = [
        {"from": "a", "to": "b", "size": 3, "gradient": {"context": ["reward"]}},
        {"from": "b", "to": "b", "size": 3, "link": {"delay": 3}},
    ]
    return scenario_of(agents, channels, Walk, batch=4, steps=50)


ONE = "run tiny.yaml --set depth=3 --set width=8 --set batch=16 --steps 12"
SEVERAL = f"{ONE} --seeds 3 --seed 2 --name x --logdir"
SEEDS = (2, 3, 4)


@pytest.fixture(autouse=True)
def _document(here: Path) -> None:
    (here / "tiny.yaml").write_text(TEXT)


def runs(folder: Path) -> list[Path]:
    return [folder / f"x-s{seed}" for seed in SEEDS]


def assert_close(one: Path, other: Path, tolerance: float) -> None:
    """Hold all metrics of two runs to each other."""
    tables = [
        {place: float(value) for place, _, value in (row.rpartition(",") for row in metrics(run)[1:])}
        for run in (one, other)
    ]
    assert not list(differences(*tables, tolerance=tolerance))
    assert not list(differences(result(one), result(other), tolerance=tolerance))


@pytest.mark.long
def test_each_seed_has_the_directory_of_a_run_of_its_own_and_goes_on_alone(here: Path, cli: Commands) -> None:
    """In single precision: a little grows in 12 steps."""
    found = cli.json(SEVERAL, ". --checkpoint-every 5")
    assert json.loads((here / "x-seeds/seeds.json").read_text()) == found
    for own, told in zip(runs(here), found["seeds"], strict=True):
        assert told == json.loads((own / "result.json").read_text())
        assert (facts(own)["together"], checkpoints(own)) == ([*SEEDS], [10, 12])
        assert not list(own.rglob(".*"))
    own, alone = here / "x-s3", here / "alone"
    cli(ONE, "--seed 3 --logdir . --name alone --checkpoint-every 5")
    assert (own / "scenario.yaml").read_text() == (alone / "scenario.yaml").read_text()
    assert checkpoints(own) == checkpoints(alone)
    assert_close(own, alone, 1e-4)
    for run in ("x-s3", "alone"):
        cli(f"resume {run} --steps 20")
    assert (result(own)["steps"], result(here / "x-s2")["steps"]) == (20, 12)
    assert_close(own, alone, 1e-3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs that nothing happened to: to be read only."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(TEXT)
    words = SEVERAL.replace("tiny.yaml", str(folder / "tiny.yaml"))
    assert run_command(words, folder, "--checkpoint-every 4") == 0
    return folder


def assert_same_runs(one: Path, other: Path) -> None:
    """Check that the runs of all seeds are the same to the last bit, and have been trained together to the end."""
    for ours, theirs in zip(runs(one), runs(other), strict=True):
        found = facts(theirs)
        assert (found["together"], found["exit"]) == ([*SEEDS], "done")
        assert_same_run(ours, theirs)


def test_a_signal_ends_all_with_checkpoints_and_the_same_again_goes_on(
    here: Path, whole: Path, cli: Commands
) -> None:
    with acting(7, signalled()):
        assert cli.code(SEVERAL, ".") == 130
    assert {(ended(run), *checkpoints(run)) for run in runs(here)} == {(("stopped", 7, None), 7)}
    first = cli.json(SEVERAL, ". --exist resume")
    assert_same_runs(whole, here)
    assert cli.json(SEVERAL, ". --exist resume") == first


@pytest.mark.long
@pytest.mark.parametrize("behind", [(3,), pytest.param((2, 4), marks=pytest.mark.long)])
def test_runs_killed_between_their_checkpoints_go_on_together(
    behind: tuple[int, ...], here: Path, whole: Path, cli: Commands
) -> None:
    """Some have the checkpoint of step 8 already, the others not: all go on from step 4, to the same bits."""
    with acting(8, signalled()):
        cli.code(SEVERAL, ". --checkpoint-every 4")
    for seed in behind:
        shutil.rmtree(here / f"x-s{seed}/checkpoints/step-000000008")
    with acting(4, bool) as fourth, acting(5, bool) as fifth:
        cli(SEVERAL, ". --checkpoint-every 4 --exist resume")
    assert (fourth, fifth) == ([], [5])
    assert_same_runs(whole, here)


def test_one_that_diverges_ends_by_itself(here: Path, whole: Path, cli: Commands) -> None:
    with acting(5, lambda running: poison(Simulation.over(running)), seed=3):
        found = cli.json(SEVERAL, ". --checkpoint-every 4")
    exit, step, error = ended(here / "x-s3")
    assert (exit, step) == ("diverged", 5)
    assert "agent 'n2': the loss at step 6 is not finite" in str(error)
    for seed in (2, 4):
        assert_close(whole / f"x-s{seed}", here / f"x-s{seed}", 1e-4)
    values = [one["accuracy"] for one in found["seeds"] if one["seed"] != 3]
    summary = found["summary"]["accuracy"]
    assert (summary["n"], summary["mean"]) == (2, pytest.approx(statistics.fmean(values)))
    again = cli.json(SEVERAL, ". --exist resume")
    assert again["summary"] == found["summary"]


# --- seeds in one program --------------------------------------------------------------------------------


TOGETHER = [3, 4, 5]
STEPS = 8


def scenario() -> Scenario:
    small = load("digits-mlp").resolve(None, {"depth": 3, "width": 8, "batch": 8})
    return small.with_training(steps=STEPS)


def assert_alike(one: Simulation, other: Simulation, tolerance: float = TOLERANCE) -> None:
    """Hold all that is known of two simulations to each other."""
    assert not list(differences(facts_of(one), facts_of(other), tolerance=tolerance))


def test_one_can_be_evaluated_forked_and_gone_on_with_whatever_stands_beside_it() -> None:
    together = Population(scenario(), [5, 4, 3, 8], dtype=torch.float64)
    alone = Simulation(scenario(), seed=4, dtype=torch.float64)
    for each in (together, alone):
        each.run(4)
    fork = together.simulations[1].fork()
    assert together.simulations[1].evaluate("test").accuracy == alone.evaluate("test").accuracy
    for one in (together, alone, fork):
        one.run(4)
    assert_alike(alone, fork)
    assert_alike(alone, together.simulations[1])


def test_a_seed_that_diverges_keeps_the_environment_as_it_was_and_there_is_no_step_without_any() -> None:
    together = Population(walking(), TOGETHER)
    together.run(3)
    poison(stopped := together.simulations[1])
    together.step()
    assert stopped.diverged is not None
    assert not newest_losses(stopped)  # at the step that diverged; not what was at the one before
    before = stopped.signals["observation"].clone()
    together.run(3)
    assert torch.equal(stopped.signals["observation"], before)
    for simulation in together.simulations:
        poison(simulation)
    for _ in range(2):
        with pytest.raises(DivergenceError):
            together.run(2)
    assert all(simulation.diverged is not None for simulation in together.simulations)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("stopped", "gate", "learn"), [([1], "skill", 1.0), ([0, 2], "skill", 1.0), ([1], "none", 0.5)]
)
def test_the_others_of_a_seed_that_diverges_are_what_they_are_alone(
    stopped: list[int], gate: str, learn: float
) -> None:
    """Its own numbers and gates are those of before the step, and no other's are moved by it."""
    gradient = {"kind": "linear", "context": ["label"], "gate": gate}
    scenario = Scenario.model_validate(levels(low={"learn": learn}, channel={"gradient": gradient}))
    together = Population(scenario, TOGETHER, dtype=torch.float64)
    together.run(3)
    for place in stopped:
        poison(together.simulations[place])
    before = [state_of(one)["system"] for one in together.simulations]
    together.run(STEPS - 3)
    for place, (seed, simulation) in enumerate(zip(TOGETHER, together.simulations, strict=True)):
        if place in stopped:
            for kind, after in simulation.running.state_dict()["system"].items():
                if kind in ("learners", "predictors"):
                    torch.testing.assert_close(after, before[place][kind], rtol=0, atol=0, equal_nan=True)
            assert simulation.now == 3
            continue
        alone = Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(STEPS)
        assert_alike(alone, simulation)


class Scaled(nn.Module):
    """One that keeps a number of its own, which no stack could have for each seed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, outputs)
        self.scale = float(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1)) * self.scale


APART = {
    "modules that differ": ({"network": Scaled}, {}, "'a' runs unstacked: its results differ when stacked"),
}


@pytest.mark.parametrize("name", APART)
def test_seeds_that_cannot_be_stacked_run_one_after_the_other(name: str) -> None:
    agent, channel, reason = APART[name]
    agents = {"a": {"observes": ["image"], **agent}, "b": {"network": LINEAR_MAP, "objective": CLASSIFY}}
    channels = [{"from": "a", "to": "b", "size": 4, "coupling": "decoupled", **channel}]
    made = scenario_of(agents, channels)
    seeds = Population(made, TOGETHER, dtype=torch.float64)
    assert seeds.sequential_reason == reason
    seeds.run(3)
    alone = Simulation(made, seed=TOGETHER[1], dtype=torch.float64)
    alone.run(3)
    assert_alike(alone, seeds.simulations[1], 0)
