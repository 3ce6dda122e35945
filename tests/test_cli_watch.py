"""`antiphon watch` and returns on the command line, in this process: a film, a score, a study, one-line refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from antiphon.engine.inference.frames import film
from antiphon.engine.simulation import Simulation
from antiphon.envs.worlds.base import World
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from tests.commands import Commands

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
telemetry: {every: 4}
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
    from antiphon.cli import main

    assert main(["run", str(found / "team.yaml"), "--name", "a", "--logdir", str(found)]) == 0
    return found


@pytest.fixture
def run(folder: Path) -> Path:
    return folder / "a"


def test_a_run_ends_with_its_return(folder: Path, tmp_path: Path, cli: Commands) -> None:
    text = cli("run", folder / "team.yaml", "--name b --logdir", tmp_path)
    (line,) = (line for line in text.splitlines() if line.startswith("return "))
    assert "(motor; 4 whole episodes of" in line
    assert "steps, greedy)" in line
    result = cli.json("run", folder / "team.yaml", "--name c --logdir", tmp_path)
    assert result["return"] == result["agents"]["motor"]["return"] == result["episodes"]["returns"]["reward"]
    assert result["return"] == result["episodes"]["length"] > 1  # a reward of 1 a step
    assert (result["episodes"]["count"], result["episodes"]["actions"]) == (4, "greedy")
    assert {"episode_return", "episode_length", "episodes"} <= result["env"].keys()


def test_the_score_says_how_actions_were_chosen(run: Path, cli: Commands) -> None:
    greedy = cli.json("evaluate", run)
    assert (greedy["episodes"]["actions"], greedy["episodes"]["count"]) == ("greedy", 4)
    assert greedy["return"] == greedy["agents"]["motor"]["return"]
    sampled = cli.json("evaluate", run, "--sampled --episodes 3")
    assert (sampled["episodes"]["actions"], sampled["episodes"]["count"]) == ("sampled", 12)
    assert sampled["return"] != greedy["return"]
    assert "12 whole episodes of " in cli("evaluate", run, "--sampled --episodes 3")
    assert "steps, sampled" in cli.out
    assert any(line.split()[:1] == ["return"] for line in cli.out.splitlines())


def test_figures_of_policies_and_episodes_are_in_the_table(run: Path) -> None:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    motor = {row[3] for row in rows if row[2] == "motor"}
    assert {"policy_loss", "value_loss", "entropy", "explained_variance", "return"} <= motor
    assert not {"approx_kl", "clip_fraction"} & motor  # of ppo
    assert not any("policy_loss" in row for row in rows if row[2] == "sensor")
    assert {row[3] for row in rows if row[1] == "run"} == {"seconds", "steps_per_second"}
    assert not any(row[4] == "nan" for row in rows if row[2] == "motor")


def test_a_study_of_returns(folder: Path, tmp_path: Path, cli: Commands) -> None:
    text = (
        "study: teams\nscenario: team.yaml\nvariants: [locked, detached]\nmetric: [return, motor.return]\n"
        "budgets: {small: {steps: 8, seeds: 2}}\n"
    )
    (folder / "study.yaml").write_text(text)
    found = cli.json("study", folder / "study.yaml", "--jobs 1 --logdir", tmp_path / "study")
    table = (tmp_path / "study" / "table.md").read_text()
    assert "| return |" in table
    lines = {line["variant"]: line for line in found["lines"]}
    assert lines.keys() == {"locked", "detached"}
    assert all(line["n"] == 2 and line["mean"]["value"] > 1 for line in lines.values())


def test_a_film_shows_every_step_of_the_episode(run: Path, tmp_path: Path, cli: Commands) -> None:
    found = cli.json("watch", run, "-o", tmp_path / "team.gif")
    assert (found["actions"], found["every"], len(found["returns"])) == ("greedy", 1, 1)
    assert found["frames"] == found["returns"][0]  # a reward of 1 a step
    with Image.open(tmp_path / "team.gif") as image:
        assert image.n_frames == found["frames"]  # type: ignore[attr-defined]
    assert cli.json("watch", run, "-o", tmp_path / "again.gif")["returns"] == found["returns"]
    assert (tmp_path / "again.gif").read_bytes() == (tmp_path / "team.gif").read_bytes()
    text = cli("watch", run, "--episodes 2 --sampled --seed 5 -o", tmp_path / "two.gif")
    assert "steps, sampled)" in text
    assert "written" in text


def test_frames_have_what_was_sent_and_done(run: Path) -> None:
    with Simulation.load(run) as simulation:
        found = film(simulation, episodes=2)
        evaluated = simulation.evaluate(episodes=2)
        again = simulation.evaluate(episodes=2)
    assert evaluated == again
    steps = [frame.step for frame in found.frames]
    ends = [place for place, step in enumerate(steps) if place and step == 1] + [len(steps)]
    assert [found.frames[end - 1].total for end in ends] == found.returns
    for frame in found.frames:
        assert frame.ticks == {"sensor", "motor"}
        assert frame.actions["motor"] in ("0", "1")
        sent = frame.sent["sensor->motor"]
        assert sent.values.shape == (2,)
        assert sent.new
        assert sent.symbols is None
    values = np.stack([frame.sent["sensor->motor"].values for frame in found.frames])
    assert len(np.unique(values, axis=0)) == len(values)
    assert not np.array_equal(found.frames[0].picture.unpack(), found.frames[-1].picture.unpack())


def test_refusals(run: Path, tmp_path: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "x.mp4: a film is a GIF" in cli.refused("watch", run, "-o x.mp4")
    words = ["--steps", "4", "--set", "depth=2", "--set", "width=8", "--name", "digits", "--logdir"]
    cli(["run", "digits-mlp", *words], tmp_path)
    pictures = "watch: the world draws no pictures; use one with the render mode rgb_array"
    assert cli.refused("watch", tmp_path / "digits", "-o", tmp_path / "a.gif").startswith(pictures)
    no_policy = "evaluate: episodes has no effect here: no agent has a policy"
    assert cli.refused("evaluate", tmp_path / "digits", "--episodes 2") == no_policy
    assert "must be at least 1" in cli.refused("watch", run, "--episodes 0")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install 'antiphon[plots]'" in cli.refused("watch", run, "-o", tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists()


GAME = """
scenario: game
env: {id: antiphon/Referential-v0, candidates: 3}
agents:
  speaker: {observes: [shown], network: {kind: mlp, hidden: [4]}}
  listener: {observes: [candidates], network: {kind: mlp, hidden: [4]}, acts: true, objective: {kind: reinforce}}
channels: [{from: speaker, to: listener, size: 2}]
training: {steps: 4, batch: 40}
"""


def test_measurements_over_examples_of_an_agent_that_learns_from_rewards(
    tmp_path: Path, cli: Commands
) -> None:
    (tmp_path / "game.yaml").write_text(GAME)
    assert "(listener; 360 whole episodes of 1 step, greedy)" in cli(
        "run", tmp_path / "game.yaml", "--name a --logdir", tmp_path
    )
    line = cli.refused("evaluate", tmp_path / "a", "--ablate zero")
    assert line.startswith(
        "ablate: the readout 'listener' learns from rewards, which are no loss of an example"
    )


class Drawn(gymnasium.Env[np.ndarray[Any, Any], int]):
    """Two steps, of which the pictures are grey; without its render mode there are none."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, shade: int = 80) -> None:
        self.render_mode, self.shade = render_mode, shade

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return np.zeros(2, np.float32), 0.5, False, self.at == 2, {}

    def render(self) -> Any:
        if self.shade > 255:
            raise ZeroDivisionError("no light")
        return None if self.render_mode is None else np.full((4, 6, 3), self.shade + self.at, np.uint8)


def drawn(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Simulation:
    monkeypatch.setattr(gymnasium, "registry", {**gymnasium.registry})
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    gymnasium.register("Drawn-v0", Drawn)
    motor = {"observes": ["observation"], "acts": True, "objective": {"kind": "a2c"}, "clock": {"unroll": 4}}
    scenario = Scenario(
        scenario="drawn",
        env={"gymnasium": "Drawn-v0", **options},
        agents={"motor": motor},
        training={"steps": 4, "batch": 3},
    )
    return Simulation(scenario)


def test_a_gymnasium_world_is_made_again_with_its_render_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn(monkeypatch) as simulation:
        found = film(simulation, episodes=2)
    assert (found.returns, found.fps) == ([1.0, 1.0], 5.0)
    assert [int(frame.picture.unpack().mean()) for frame in found.frames] == [80, 81, 80, 81]
    assert [(frame.episode, frame.step) for frame in found.frames] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [frame.total for frame in found.frames] == [0.5, 1.0, 0.5, 1.0]


def test_a_world_that_cannot_draw_says_why(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with drawn(monkeypatch, shade=300) as simulation, pytest.raises(RunError, match="no light") as error:
        film(simulation)
    assert "\n" not in str(error.value)

    def missing(self: object) -> Any:
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed,\nrun pip install it")

    monkeypatch.setattr(World, "render", missing)
    line = "watch: the world cannot draw its picture: DependencyNotInstalled: pygame is not installed, run pip install it"
    with Simulation.load(run) as simulation, pytest.raises(RunError, match=line):
        film(simulation)
    monkeypatch.setattr(World, "render", lambda _: (np.zeros((3, 4)),))
    line = r"watch: a picture is \[height, width, 3\] bytes, and the world draws \[3, 4\] float64"
    with Simulation.load(run) as simulation, pytest.raises(RunError, match=line):
        film(simulation)
