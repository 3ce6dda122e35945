"""Film of episodes: a system acts in an environment of its own that renders pictures, and its messages are kept."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import AntiphonError, RunError, ScenarioError
from antiphon.base.files import writing
from antiphon.base.mask import Mask
from antiphon.base.progress import Progress
from antiphon.base.spec import plain
from antiphon.engine.environment import continued
from antiphon.engine.heart.system import System
from antiphon.engine.inference.evaluation import rollout_seed
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.engine.inference.rollout_links import Links
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import OUTCOMES
from antiphon.scenarios import Scenario
from antiphon.scenarios.env_spec import EnvSpec
from antiphon.telemetry.gif import FilmFrame, FilmMessage, write_film

_MODE = "rgb_array"
_EXTERNAL = ("gymnasium/", "pettingzoo/")
"""Prefixes of environments that need a render mode to be drawn."""
_FPS = 30
"""Frames per second of an environment that does not say."""
_LONGEST = 10_000
"""Steps of all episodes together, at most."""


def film(
    system: System,
    scenario: Scenario,
    run: TorchVectorEnv,
    path: Path,
    now: int,
    *,
    seed: int,
    episodes: int,
    senders: Collection[str] | None,
) -> Path:
    """Write whole episodes of one environment, with the most likely actions and over perfect links, as an animated GIF.

    Args:
        system: The system; no bit of it changes.
        run: Its environment, whose running statistics the film's continues.
        path: The file, which is returned.
        senders: Agents whose messages are shown; None: all.

    Raises:
        ScenarioError: The environment renders no pictures, or its episodes never end.
        RunError: It cannot render them here; the episodes do not end within 10,000 steps.
    """
    with closing(continued(_environment(system, scenario), run)) as env, Progress("filming", None) as bar:
        if env.endless:
            raise ScenarioError(
                "export: the environment's episodes never end; truncate them, as with max_episode_steps or limit"
            )
        frames: list[FilmFrame] = []
        sent: dict[str, FilmMessage] = {}
        names = {
            channel.name for channel in scenario.channels if senders is None or channel.sender in senders
        }

        def deliver(channel: str, stamp: int, message: Tensor, rows: Mask) -> Tensor:
            if channel in names and bool(rows.tensor(len(message), "cpu")[0]):
                sent[channel] = FilmMessage(message[0].float().numpy(force=True).copy(), True)
            return message

        seed = rollout_seed(seed, "test", 0)
        rollout = EnvironmentRollout(system, env, Links(), seed, signals=OUTCOMES, deliver=deliver)
        ended, step, total = 0, 0, 0.0
        while ended < episodes:
            if len(frames) == _LONGEST:
                raise RunError(
                    f"export: {ended} of {episodes} episodes have ended after {_LONGEST:,} steps; export fewer episodes"
                )
            picture = _picture(env)
            sent = {name: message._replace(new=False) for name, message in sent.items()}
            signals = rollout.world.step_signals.signals
            rollout.step()
            bar.advance()
            if "_reward" not in signals or bool(signals["_reward"][0]):  # not a step that only resets
                reward = signals["reward"][0].item()
                step, total = step + 1, total + reward
                text = f"episode {ended + 1}    step {step}    reward {reward:+.3g}    return {total:.5g}"
                frames.append(FilmFrame.of(picture, text, sent))
            if bool(signals["terminated"][0]) or bool(signals["truncated"][0]):
                ended, step, total, sent = ended + 1, 0, 0.0, {}
        fps = float(env.metadata.get("render_fps") or _FPS)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_film(path, frames, title=f"{scenario.scenario} after {now:,} steps", fps=fps)
    return path


def _environment(system: System, scenario: Scenario) -> TorchVectorEnv:
    """Make an environment that renders pictures: as few copies as possible, unless the scenario holds the environment itself."""
    spec = registry.copied(scenario.env, "a film needs one of its own")
    batch = scenario.training.batch
    if isinstance(spec, EnvSpec):  # the first row is filmed; others of ours may be its opponent
        batch = 1 if spec.id.startswith(_EXTERNAL) else 2
    how: dict[str, Any] = {"batch": batch, "device": system.device, "dtype": system.dtype}
    env = registry.make(spec, **how)
    modes = env.metadata.get("render_modes") or []
    if _MODE not in modes:
        env.close()
        modes_listed = f" (only {', '.join(modes)})" if modes else ""
        raise ScenarioError(
            f"export: the environment renders no pictures{modes_listed}; use one with the render mode {_MODE}, such as "
            "antiphon/CartPole-v0"
        )
    if env.render_mode == _MODE or not isinstance(spec, EnvSpec) or not spec.id.startswith(_EXTERNAL):
        return env  # environments by id draw without a mode, or have it among their keys
    env.close()
    drawn = EnvSpec.model_validate({**plain(spec), "render_mode": _MODE})
    return registry.make(drawn, **how)


def _picture(env: Any) -> NDArray[np.uint8]:
    """Return the picture of the first environment, [height, width, 3] bytes."""
    try:
        picture = np.asarray(env.render()[0])
        if picture.dtype != np.uint8:
            raise RunError(
                f"export: the environment renders a picture of {picture.dtype}; make it uint8, 0 to 255"
            )
        return picture.reshape(*picture.shape[:2], 3)
    except AntiphonError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's environment may raise)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(
            f"export: the environment renders no picture [height, width, 3]: {line}; return one from render()"
        ) from None
