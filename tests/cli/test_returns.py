"""Returns of policies on the command line, in this process: the score of a run, of an evaluation, of a study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.commands import Commands, run_command

TEAM = """
scenario: team
env: {id: antiphon/CartPole-v0, limit: 30}
agents:
  sensor: {observes: [observation], network: {kind: mlp, hidden: [4]}, clock: {unroll: 4}}
  motor:
    acts: true
    network: {kind: mlp, hidden: [4]}
    clock: {unroll: 4}
    objective: {kind: a2c}
channels: [{from: sensor, to: motor, size: 2, coupling: $coupling}]
training: {steps: 12, batch: 4}
telemetry: {period: 4}
variants:
  locked: {coupling: locked}
  detached: {coupling: detached}
parameters:
  coupling: {choices: [locked, detached, decoupled], default: decoupled}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scenario and a finished run of it."""
    found = tmp_path_factory.mktemp("team")
    (found / "team.yaml").write_text(TEAM)
    assert run_command(["run", str(found / "team.yaml"), "--name", "a", "--logdir", str(found)]) == 0
    return found


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "a"


@pytest.mark.long
def test_a_run_ends_with_its_return(folder: Path, tmp_path: Path, cli: Commands) -> None:
    text = cli("run", folder / "team.yaml", "--name b --logdir", tmp_path)
    (line,) = (line for line in text.splitlines() if line.startswith("return "))
    assert "whole episodes of" in line
    assert "steps, greedy, in " in line
    result = cli.json("run", folder / "team.yaml", "--name c --logdir", tmp_path)
    assert result["return"] == result["agents"]["motor"]["return"] == result["episodes"]["returns"]["reward"]
    assert result["return"] == result["episodes"]["length"] > 1  # a reward of 1 a step
    episodes = result["episodes"]
    assert (episodes["count"] % 4, episodes["actions"]) == (0, "greedy")
    assert episodes["count"] > 20  # as many as fit into some 200 steps of 4 environments
    assert 100 < episodes["steps"] < 500
    assert 0 < episodes["errors"]["reward"] < 1
    assert {"episode_return", "episode_length", "episodes"} <= result["env"].keys()
    rows = [line.split(",") for line in (tmp_path / "c/metrics.csv").read_text().splitlines()]
    motor = {row[3] for row in rows if row[2] == "motor"}
    assert {"policy_loss", "value_loss", "entropy", "explained_variance", "return"} <= motor


@pytest.mark.long
def test_the_score_says_how_actions_were_chosen(run: Path, cli: Commands) -> None:
    greedy = cli.json("evaluate", run)
    assert (greedy["episodes"]["actions"], greedy["episodes"]["count"] % 4) == ("greedy", 0)
    assert greedy["return"] == greedy["agents"]["motor"]["return"]
    sampled = cli.json("evaluate", run, "--sampled --episodes 3")
    assert (sampled["episodes"]["actions"], sampled["episodes"]["count"]) == ("sampled", 12)
    assert sampled["return"] != greedy["return"]
    assert "12 whole episodes of " in cli("evaluate", run, "--sampled --episodes 3")
    assert "steps, sampled" in cli.out
    assert any(line.split()[:1] == ["return"] for line in cli.out.splitlines())


@pytest.mark.long
def test_a_study_scores_policies_on_as_many_episodes_as_it_is_told(
    folder: Path, tmp_path: Path, cli: Commands
) -> None:
    same = ("study", folder / "team.yaml", "--variant locked --seeds 1 --steps 8 --jobs 1 --logdir", tmp_path)
    cli.json(*same)
    before = (tmp_path / "locked-s0/metrics.csv").stat().st_mtime_ns
    cli.json(*same, "--episodes", "3")
    assert (tmp_path / "locked-s0/metrics.csv").stat().st_mtime_ns == before  # scored, not trained, again
    scores = json.loads((tmp_path / "locked-s0/evaluations.json").read_text())["scores"]
    assert scores["test, 3 episodes"]["evaluation_episodes"] == 12
