"""Frames of a film: a system acting in a world of its own that draws pictures, with what its agents send and do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.core.environment import make_environment, with_own_env
from antiphon.engine.core.records import AgentTick
from antiphon.engine.inference.evaluation import rollout_seed
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import OUTCOMES
from antiphon.errors import AntiphonError, RunError, ScenarioError
from antiphon.scenarios.document import EnvSpec
from antiphon.scenarios.spec import plain
from antiphon.telemetry.film import FilmFrame, PackedPicture, SentMessage

if TYPE_CHECKING:
    from antiphon.engine.base_simulation import BaseSimulation

__all__ = ["Film", "film"]

_MODE = "rgb_array"
_FPS = 30
"""Frames per second of a world that does not say."""
_LONGEST = 10_000
"""Steps of all episodes together, at most."""


@dataclass(frozen=True)
class Film:
    """Frames of whole episodes of one environment.

    Attributes:
        frames: Step by step.
        returns: Of the episodes.
        fps: The world's own frames per second.
    """

    frames: list[FilmFrame]
    returns: list[float]
    fps: float


def film(
    simulation: BaseSimulation,
    *,
    episodes: int = 1,
    seed: int | None = None,
    sampled: bool = False,
    on_step: Callable[[], Any] = lambda: None,
) -> Film:
    """Run a simulation's system in a fresh world, over perfect links, and return what happens in the first environment.

    Args:
        simulation: No bit of it changes.
        episodes: How many whole episodes.
        seed: Of world and sampled actions; None: as of an evaluation.
        sampled: Whether policies sample their actions; else they take the most likely one.
        on_step: Called after every step.

    Raises:
        ScenarioError: The world draws no pictures, or its episodes never end.
        RunError: It cannot draw them here, or the episodes have not ended after 10,000 steps.
    """
    simulation.synchronize()
    simulation.check_open()
    seed = rollout_seed(simulation.seed if seed is None else seed, "test", 0)
    with closing(_world(simulation)) as env:
        if env.endless:
            raise ScenarioError("watch: the world's episodes never end")
        camera = _Camera(simulation, env, seed, sampled=sampled)
        while len(camera.returns) < episodes:
            if len(camera.frames) == _LONGEST:
                ended = f"{len(camera.returns)} of {episodes} episodes"
                raise RunError(f"watch: {ended} have ended after {_LONGEST:,} steps; ask for fewer")
            camera.step()
            on_step()
        return Film(camera.frames, camera.returns, float(env.metadata.get("render_fps") or _FPS))


class _Camera:
    """Steps a system in a world, and keeps a frame of each step."""

    def __init__(self, simulation: BaseSimulation, env: TorchVectorEnv, seed: int, *, sampled: bool) -> None:
        self._env = env
        self._sent: dict[str, SentMessage] = {}
        self._symbols = _symbols(simulation)
        self._actors = [name for name, agent in simulation.system.agents.items() if agent.acts]
        self._rollout = EnvironmentRollout(
            simulation.system,
            env,
            Links(),
            seed,
            sampled=sampled,
            signals=OUTCOMES,
            deliver=self._deliver,
        )
        self._begin()
        self.frames: list[FilmFrame] = []
        self.returns: list[float] = []

    def _begin(self) -> None:
        self._step, self._total = 0, 0.0
        self._actions: dict[str, str] = {}
        self._sent.clear()

    def _deliver(self, channel: str, stamp: int, message: Tensor) -> Tensor:
        values = message[0].float().numpy(force=True).copy()
        self._sent[channel] = SentMessage(values, self._symbols_of(channel, values), True)
        return message

    def _symbols_of(self, channel: str, values: NDArray[np.float32]) -> tuple[int, ...] | None:
        vocabulary = self._symbols.get(channel)
        return None if vocabulary is None else tuple(values.reshape(-1, vocabulary).argmax(1).tolist())

    def step(self) -> None:
        """Take a step and keep its frame."""
        picture = _picture(self._env)
        self._sent = {name: message._replace(new=False) for name, message in self._sent.items()}
        signals = self._rollout.world.step_signals.signals
        parts = self._rollout.step()
        ended = bool(signals["terminated"][0]) or bool(signals["truncated"][0])
        if "_reward" not in signals or bool(signals["_reward"][0]):
            self._step += 1
            self._total += signals["reward"][0].item()
            self._actions |= {p.agent: _action(p) for p in parts if p.agent in self._actors}
            self.frames.append(
                FilmFrame(
                    picture=PackedPicture.of(picture),
                    episode=len(self.returns) + 1,
                    step=self._step,
                    reward=signals["reward"][0].item(),
                    total=self._total,
                    sent=dict(self._sent),
                    actions=dict(self._actions),
                    ticks=frozenset(part.agent for part in parts),
                )
            )
        if ended:
            self.returns.append(self._total)
            self._begin()


def _symbols(simulation: BaseSimulation) -> dict[str, int]:
    """Return the vocabularies of the channels that carry symbols."""
    return {
        channel.name: channel.symbols.vocabulary
        for channel in simulation.scenario.channels
        if channel.symbols is not None
    }


def _action(part: AgentTick) -> str:
    """Return what an agent does in the first environment, as text."""
    values = (part.ports[OBJECTIVE] if part.action is None else part.action)[0].flatten().tolist()
    if part.action is None:
        return f"{max(range(len(values)), key=values.__getitem__)}"
    words = [str(value) if isinstance(value, int) else f"{value:.2f}" for value in values]
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


# --- pictures ----------------------------------------------------------------------------------------------


def _world(simulation: BaseSimulation) -> TorchVectorEnv:
    """Make a world that draws pictures: of one environment, unless the scenario holds the world itself."""
    scenario = with_own_env(simulation.scenario, "a film needs one of its own")
    spec = scenario.env
    batch = 1 if isinstance(spec, EnvSpec) else scenario.training.batch
    env = make_environment(scenario, simulation.device, simulation.dtype, batch)
    modes = env.metadata.get("render_modes") or []
    if _MODE not in modes:
        env.close()
        known = f" (only {', '.join(modes)})" if modes else ""
        raise ScenarioError(
            f"watch: the world draws no pictures{known}; use one with the render mode {_MODE}, such as antiphon/CartPole-v0"
        )
    if env.render_mode == _MODE or not isinstance(spec, EnvSpec) or spec.id is not None:
        return env  # environments by id draw without a mode, or have it among their keys
    env.close()
    drawn = EnvSpec.model_validate({**plain(spec), "render_mode": _MODE})
    scenario = scenario.model_copy(update={"env": drawn})
    return make_environment(scenario, simulation.device, simulation.dtype, batch)


def _picture(env: Any) -> NDArray[np.uint8]:
    """Return the picture of the first environment, [height, width, 3] bytes."""
    try:
        pictures = env.render()
    except AntiphonError:
        raise
    except Exception as error:  # noqa: BLE001  (anything somebody's world may raise)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(f"watch: the world cannot draw its picture: {line}") from None
    picture = None if pictures is None or len(pictures) == 0 else np.asarray(pictures[0])
    if picture is None or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        made = "none" if picture is None else f"{list(picture.shape)} {picture.dtype}"
        raise RunError(
            f"watch: a picture is [height, width, 3] bytes, and the world draws {made}; give it render_mode"
        )
    return picture
