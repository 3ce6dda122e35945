"""A speaker that observes the goal and a listener that moves, `antiphon/SpeakerListener-v0`."""

from __future__ import annotations

from typing import Any, Literal

import torch
from gymnasium.spaces import Dict, Discrete
from pydantic import Field
from torch import Tensor

from antiphon.envs.signal import Description, Signal
from antiphon.envs.worlds.world import Actions, State, World

_SECONDS = 0.1  # per step
_DAMPING = 0.25
"""Share of the velocity that is lost in a step."""
_FORCE = 5.0
_DIRECTIONS = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))
"""Direction of the force, (x, y), for each action."""
_RANDOMS = 9
"""Random numbers of a start without noise."""
_COLOURS = ((0.65, 0.15, 0.15), (0.15, 0.65, 0.15), (0.15, 0.15, 0.65))
"""Colour of each landmark; the speaker observes the goal's colour."""


class SpeakerListener(World):
    """The simple_speaker_listener_v4 of mpe2 (Mordatch and Abbeel 2017; Lowe et al. 2017).

    Description:
        There are three landmarks in a plane, and one of them is the goal. The speaker observes the goal's colour and cannot
        move; the listener moves and does not observe the goal. In a step the listener moves by its velocity v times 0.1 s;
        then a quarter of the velocity is lost and the action adds 0.1 s times a force of 5.
    Action space:
        A Dict: `speaker`, `Discrete(3)`, the message; `listener`, `Discrete(5)`: no force (0), to the left (1), right (2),
        down (3), up (4). With `message: channel` only the listener's.
    Observation space:
        `speaker` [3 + `noise`]: the colour of the goal, then the noise. `listener` [11]: its velocity, the positions of the three
        landmarks relative to it, and the message of the previous step, one-hot, at first zeros; with `message: channel` [8],
        without the message.
        `info` has `goal`, int64, the landmark from 0 to 2, and after a step `reward.speaker` and `reward.listener`.
    Rewards:
        Minus the squared distance from the listener to the goal after the step, for both.
    Starting state:
        Listener and landmarks uniform in the square from -1 to 1, at rest; a random goal.
    Episode end:
        Truncated after `limit` steps, all copies at once.
    """

    randoms = _RANDOMS

    class Options(World.Options):
        message: Literal["world", "channel"] = "world"
        """`world`: the message is the speaker's action, one of three; `channel`: it goes over a channel, and only the listener
        acts."""
        limit: int = Field(25, ge=1)
        """Steps of every episode."""
        noise: int = Field(0, ge=0)
        """Numbers of noise, from -1 to 1, that the speaker observes beside the colour, new in each episode."""

    @staticmethod
    def describe(options: Options) -> Description:
        talks, moves = options.message == "world", Discrete(5)
        reward = Signal(training_only=True, known="after_step")
        signals = {
            "speaker": Signal(shape=(3 + options.noise,), low=-1.0 if options.noise else 0.0, high=1.0),
            "listener": Signal(shape=(11 if talks else 8,)),
            "goal": Signal(classes=3, training_only=True),
            "reward.speaker": reward,
            "reward.listener": reward,
        }
        return Description(
            signals=signals,
            episode_steps=options.limit,
            action_space=Dict(speaker=Discrete(3), listener=moves) if talks else moves,
        )

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self._talks = options.message == "world"
        self.randoms += options.noise
        self._pushes = torch.tensor(_DIRECTIONS, device=self.device, dtype=self.dtype) * (_FORCE * _SECONDS)
        self._colours = torch.tensor(_COLOURS, device=self.device, dtype=self.dtype)
        self._words = torch.eye(len(_COLOURS), device=self.device, dtype=self.dtype)

    def start(self, uniforms: Tensor) -> State:
        positions = (uniforms[:, :8] * 2 - 1).to(self.dtype)
        state = {
            "position": positions[:, :2],
            "velocity": torch.zeros_like(positions[:, :2]),
            "landmarks": positions[:, 2:],
            "goal": (uniforms[:, 8] * len(_COLOURS)).long(),
        }
        if uniforms.shape[1] > _RANDOMS:
            state["noise"] = (uniforms[:, _RANDOMS:] * 2 - 1).to(self.dtype)
        if self._talks:
            state["message"] = torch.zeros(self.num_envs, len(_COLOURS), device=self.device, dtype=self.dtype)
        return state

    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        """Move each listener by its velocity, then change the velocity; deliver the message."""
        push = self._pushes[actions["listener" if self._talks else "action"]]
        reached = {
            **state,
            "position": state["position"] + _SECONDS * state["velocity"],
            "velocity": (1 - _DAMPING) * state["velocity"] + push,
        }
        if self._talks:
            reached["message"] = self._words[actions["speaker"]]
        copies = torch.arange(self.num_envs, device=self.device)
        goals = state["landmarks"].view(-1, 3, 2)[copies, state["goal"]]
        reward = -(reached["position"] - goals).square().sum(1)
        return reached, reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: State) -> dict[str, Tensor]:
        values = {"goal": state["goal"]}
        if "speaker" in self.requested:
            colour = self._colours[state["goal"]]
            values["speaker"] = torch.cat([colour, state["noise"]], 1) if "noise" in state else colour
        if "listener" in self.requested:
            parts = [state["velocity"], state["landmarks"] - state["position"].repeat(1, 3)]
            values["listener"] = torch.cat([*parts, state["message"]] if self._talks else parts, 1)
        return values
