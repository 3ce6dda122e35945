"""Base class of environments with actions: a subclass defines states and transitions, this class the vector environment."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.base.tools import copy_with
from antiphon.envs.base import StepResult, TorchVectorEnv, Values
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description
from antiphon.envs.spaces import ActionSpace
from antiphon.nets.random import seed_for, uniform_many

State = dict[str, Tensor]
"""State of all copies of an environment, `[batch, …]` each."""
Actions = dict[str, Tensor]
"""Choice of each part of the action, int64 `[batch]`; an action without parts is called `action`."""

_ONLY = "action"


class World(TorchVectorEnv):
    """Many copies of an environment with actions and rewards, each with its own episodes.

    A subclass defines the description of its options, the initial state, the transition and the observations. They are
    computed for all copies at once, and the state of an ended episode is replaced by the start of the next: a step does not
    synchronise with the device. The description's `action_space` is a Discrete or a Dict of these; if its `episode_steps` is
    set, no episode terminates earlier.

    The reward is shared by the team: every `reward.NAME` of the description is equal to it, unless `outcomes` returns another.
    An episode that has not terminated after `limit` steps is truncated. `settings` are `device` and `dtype`, see `TorchVectorEnv`.
    """

    randoms: int = 0
    """Number of uniform random numbers that the start of an episode needs."""

    class Options(EnvOptions):
        """Options of every environment with a step limit."""

        limit: int = Field(100, ge=1)
        """Steps after which an episode is truncated."""

    @staticmethod
    @abstractmethod
    def describe(options: Any) -> Description:
        """Return signals, action space and length of episodes."""

    def __init__(self, num_envs: int, options: World.Options, **settings: Any) -> None:
        description = self.describe(options)
        space = description.action_space
        parts: dict[str, Any] = {**space.spaces} if isinstance(space, spaces.Dict) else {_ONLY: space}
        assert space is not None
        super().__init__(num_envs, description, space, **settings)
        self._limit = options.limit
        self._translation = ActionSpace(space)
        self._choices: dict[str, int] = {name: int(part.n) for name, part in parts.items()}
        self._step = 0  # steps since the last seed, resets among them
        self._tick = 0  # steps of the present episodes, where all copies are in step
        self._state: State = {}
        self._others: Sequence[World] = ()
        """Environments whose rows follow its own (`step_all`)."""

    @abstractmethod
    def start(self, uniforms: Tensor) -> State:
        """Return initial states from uniform numbers in [0, 1), float64 `[batch, randoms]`."""

    @abstractmethod
    def transition(self, state: State, actions: Actions) -> tuple[State, Tensor, Tensor]:
        """Return the next states, the rewards `[batch]` and which episodes terminate, bool `[batch]`; change no tensor.

        Tensors of the state that are left out stay as they are.
        """

    @abstractmethod
    def observe(self, state: State) -> dict[str, Tensor]:
        """Return the values of (at least) the requested signals that are known at the tick."""

    def outcomes(self, state: State) -> dict[str, Tensor]:
        """Return the values of signals known after the step that led to a state, by default none; they replace rewards."""
        return {}

    def carry_over(self, state: State) -> State:
        """Return tensors that a new episode takes from the last state of the one before, by default none."""
        return {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Start the first episodes of a seed; without a seed end all episodes and start new ones."""
        self._step = 0 if self._begin_seed(seed) else self._step + 1
        self._tick = 0
        self._state = self._started()
        return self._values(self._state)

    def step(self, actions: Any = None) -> StepResult:
        """Take a step; ended episodes are followed by new ones.

        Args:
            actions: Choices `[batch]` or their logits `[batch, choices]`; if the action has parts, a mapping of these. None,
                or a missing part: random choices, functions of seed, step and copy.

        Raises:
            ScenarioError: Actions of the wrong shape, or an unknown part.
        """
        self._require_reset()
        return self._stepped(self._actions(actions))

    @staticmethod
    def step_all(worlds: Sequence[World], actions: Any) -> StepResult:
        """Take a step of several environments of one class and the same options, computed at once.

        Args:
            worlds: The environments, which have taken as many steps since their reset.
            actions: Of all, row after row, see `step`.

        Returns:
            What their own `step` would return, up to rounding, row after row. The state of each is views of rows.
        """
        first, batch = worlds[0], worlds[0].num_envs
        state = {name: torch.cat([one._state[name] for one in worlds]) for name in first._state}
        joint = copy_with(first, num_envs=batch * len(worlds), _others=worlds[1:], _state=state)
        result = joint._stepped(joint._actions(actions))
        rows = zip(*(torch.split(value, batch) for value in joint._state.values()), strict=True)
        for one, own in zip(worlds, rows, strict=True):
            one._state = dict(zip(joint._state, own, strict=True))
            one._step, one._tick = joint._step, joint._tick
        return result

    def go_on_with(self, staying: Sequence[int], place: int, worlds: int) -> None:
        """Note that of `worlds` that are stepped together (`step_all`), it at `place`, those at the places `staying` go on."""

    def as_often_stepped(self, other: World) -> bool:
        """Whether another environment has taken as many steps, since its seed and in its episodes."""
        return self._step == other._step and self._tick == other._tick

    def _stepped(self, choices: Actions) -> StepResult:
        self._step += 1
        changed, reward, terminated = self.transition(self._state, choices)
        reward, terminated = reward.to(self.dtype), terminated.bool()
        reached = {**self._state, **changed, "elapsed": self._state["elapsed"] + 1}
        truncated = (reached["elapsed"] >= self._limit) & ~terminated
        observations, facts = self._values(reached)
        outcomes = {name: reward for name in self.requested if name.startswith("reward.")}
        outcomes |= self.typed(self.outcomes(reached))
        names = [each for name in self.requested for each in (name, f"_{name}")]
        result: dict[str, Any] = {name: outcomes[name] for name in names if name in outcomes}
        may_end = True
        if self.episode_steps is not None:  # all end together: this is known without waiting
            self._tick = (self._tick + 1) % self.episode_steps
            may_end = self._tick == 0
            terminated, truncated = self.everywhere(False), self.everywhere(may_end)
        if may_end:
            ended = terminated | truncated
            result |= {"final_obs": observations, "_final_obs": ended}
            result |= {"final_info": facts, "_final_info": ended}
            started = self._started() | self.carry_over(reached)
            reached = {
                name: torch.where(ended.view(-1, *(1 for _ in value.shape[1:])), started[name], value)
                for name, value in reached.items()
            }
            observations, facts = self._values(reached)
        self._state = reached
        return observations, reward, terminated, truncated, {**result, **facts}

    def state_dict(self) -> dict[str, Any]:
        """Return the state: `seed`, `step` and `tick`, and the tensors `state`."""
        return {"seed": self._seed, "step": self._step, "tick": self._tick, "state": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seed, self._step, self._tick = state["seed"], int(state["step"]), int(state["tick"])
        self._state = {name: value.to(self.device) for name, value in state["state"].items()}

    def _started(self) -> State:
        """Return the starts of this step's number, a function of seed, step and copy."""
        state = self.start(self._sampled(self.randoms, "env"))
        state["elapsed"] = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        return state

    def _sampled(self, count: int, *names: str) -> Tensor:
        """Return uniform random numbers of this step, functions of seed, step and copy, float64 `[batch, count]`."""
        if not count:
            return torch.empty(self.num_envs, 0, device=self.device)
        seeds = [seed_for(one._seed, *names) for one in (self, *self._others) if one._seed is not None]
        numbers = self.num_envs * count // len(seeds)
        sampled = uniform_many(torch.tensor(seeds, device=self.device), self._step, numbers)
        return sampled.view(self.num_envs, count)

    def _values(self, state: State) -> Values:
        return self._divide(self.typed(self.observe(state)))

    def _actions(self, actions: Any) -> Actions:
        choices = self._random() if actions is None else actions
        if actions is not None:
            choices = self._translation.translated(actions, self._random, arrays=False)
            choices = choices if isinstance(choices, Mapping) else {_ONLY: choices}
        for name, choice in choices.items():
            fix = f"pass choices [{self.num_envs}] or logits [{self.num_envs}, {self._choices[name]}]"
            fits = choice.shape == (self.num_envs,)
            require(fits, f"env: {name}", f"{list(choice.shape)}; {fix}", ScenarioError)
        return {name: choice.to(self.device, torch.int64) for name, choice in choices.items()}

    def _random(self) -> Actions:
        return {
            name: (self._sampled(1, "actions", name)[:, 0] * count).long().clamp_(max=count - 1)
            for name, count in self._choices.items()
        }
