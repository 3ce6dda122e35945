"""`antiphon export RUN world.gif`: the environment's pictures beside bars of the messages, and one-line refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image

from antiphon import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from antiphon.telemetry.gif import FilmFrame, FilmMessage, write_film
from tests.cli.test_returns import TEAM
from tests.kit.commands import Commands


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a team whose environment renders pictures."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "team.yaml").write_text(TEAM)
    with Simulation(folder / "team.yaml", logdir=folder / "a") as simulation:
        simulation.run()
    return folder / "a"


def shown(path: Path) -> list[np.ndarray[Any, Any]]:
    """The frames of a GIF, [height, width, 3] each."""
    with Image.open(path) as image:
        frames = []
        for place in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(place)
            frames.append(np.asarray(image.convert("RGB")))
        return frames


@pytest.mark.long
def test_a_gif_has_a_frame_of_every_step_and_the_same_bytes_again(
    run: Path, tmp_path: Path, cli: Commands
) -> None:
    cli("export", run, tmp_path / "team.gif")
    assert "written" in cli.out
    with Simulation.load(run) as simulation:
        episodes = simulation.evaluate(episodes=1).episodes
        again = simulation.export(tmp_path / "again.gif")
        simulation.export(tmp_path / "films" / "two.gif", episodes=2)  # the folder is made
        assert simulation.evaluate(episodes=1).episodes == episodes
    assert again.read_bytes() == (tmp_path / "team.gif").read_bytes()
    one, two = shown(again), shown(tmp_path / "films" / "two.gif")
    assert 1 < len(one) < len(two)
    assert not np.array_equal(one[0], one[-1])
    assert (
        cli.json("export", run, tmp_path / "films" / "two.gif", "--episodes 2")["bytes"]
        == (tmp_path / "films" / "two.gif").stat().st_size
    )


def frame(step: int = 1, *values: float, new: bool = True) -> FilmFrame:
    messages = {"a->b": FilmMessage(np.array(values, np.float32), new)} if values else {}
    return FilmFrame.of(np.full((20, 30, 3), 10 * step, np.uint8), f"step {step}", messages)


def painted(image: np.ndarray[Any, Any], colour: tuple[int, int, int]) -> int:
    """The number of pixels of a colour, but for its rounding in a palette."""
    return int((np.abs(image.astype(int) - colour).max(-1) < 12).sum())


@pytest.mark.long
def test_bars_go_up_or_down_on_one_scale_and_are_grey_while_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    frames = [frame(1, 1.0), frame(2, 4.0), frame(3, -4.0), frame(4, 4.0, new=False), frame(5, float("nan"))]
    write_film(path, frames, title="team", fps=30)
    images = shown(path)
    green, red, grey = (18, 154, 134), (200, 69, 59), (201, 209, 216)
    small, large = (painted(image, green) for image in images[:2])
    assert 0 < small < large
    assert painted(images[2], red) == large
    assert painted(images[3], grey) >= large
    assert painted(images[3], green) == 0
    assert painted(images[4], green) == painted(images[4], red) == 0
    monkeypatch.setattr("antiphon.telemetry.gif._MOST", 2)
    write_film(path, frames, title="team", fps=30)
    assert len(shown(path)) == 3  # of the steps 0 and 3, and the last
    with pytest.raises(RunError, match="cannot be written"):
        write_film(tmp_path / "nowhere" / "a.gif", frames, title="", fps=30)


@pytest.mark.long
def test_refusals(run: Path, tmp_path: Path, cli: Commands) -> None:
    assert "--episodes: has no effect on w.safetensors" in cli.refused(
        "export", run, "w.safetensors --episodes 2"
    )
    assert "--agent: no agent 'senser'" in cli.refused("export", run, "a.gif --agent senser")
    words = ["--steps", "4", "--set", "depth=2", "--set", "width=8", "--name", "digits", "--logdir"]
    cli(["run", "digits-mlp", *words], tmp_path)
    line = "export: the environment renders no pictures; use one with the render mode rgb_array"
    assert cli.refused("export", tmp_path / "digits", tmp_path / "a.gif").startswith(line)
    assert "must be at least 1" in cli.refused("export", run, "a.gif --episodes 0")


class Drawn(gymnasium.Env[np.ndarray[Any, Any], int]):
    """Two steps, of which the pictures are grey, a shade lighter each."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    dtype: type[np.number[Any]] = np.uint8

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at += 1
        return np.zeros(2, np.float32), 0.5, False, self.at == 2, {}

    def render(self) -> Any:
        return None if self.render_mode is None else np.full((4, 6, 3), 80 + self.at, self.dtype)


def test_a_gymnasium_environment_is_made_again_with_its_render_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gymnasium, "registry", {**gymnasium.registry})
    monkeypatch.setattr(gymnasium.envs.registration, "registry", gymnasium.registry)
    gymnasium.register("Drawn-v0", Drawn, disable_env_checker=True)
    agent = {"observes": ["observation"], "acts": True, "objective": {"kind": "a2c"}, "clock": {"unroll": 4}}
    training = {"steps": 4, "batch": 3}
    scenario = {"scenario": "drawn", "env": {"id": "gymnasium/Drawn-v0"}, "agents": {"a": agent}}
    with Simulation(Scenario.model_validate({**scenario, "training": training})) as simulation:
        frames = shown(simulation.export(tmp_path / "a.gif", episodes=2))
        monkeypatch.setattr(Drawn, "dtype", np.float32)
        with pytest.raises(RunError, match="renders a picture of float32; make it uint8, 0 to 255"):
            simulation.export(tmp_path / "b.gif")
        assert not (tmp_path / "b.gif").exists()
    pixels = [int(image[100, 100, 0]) for image in frames]
    assert pixels == pytest.approx([80, 81, 80, 81], abs=2)  # two steps an episode, shade by step
