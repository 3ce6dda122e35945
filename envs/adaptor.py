"""Adaptor from Gymnasium vector environments: torch tensors, named signals, resets in the same step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from antiphon.envs.base import StepResult, TorchVectorEnv, Values, chosen
from antiphon.envs.signal import Description, Signal
from antiphon.errors import RunError, ScenarioError, suggest

__all__ = ["VectorAdaptor", "vector"]

_REWARD = "reward"


def vector(
    env: VectorEnv[Any, Any, Any] | str,
    batch: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TorchVectorEnv:
    """Return a Gymnasium vector environment, or the one of an id, as an environment for a scenario.

    Args:
        env: The environment, or an id of Gymnasium's registry.

    Raises:
        ScenarioError: An unknown id, another number of sub-environments, or spaces and autoreset modes that
            have no translation.
    """
    if isinstance(env, str):
        env = _open(env, batch)
    if env.num_envs != batch:
        raise ScenarioError(
            f"training.batch: {batch}, but the environment has {env.num_envs} sub-environments; make them equal"
        )
    if isinstance(env, TorchVectorEnv):
        return env
    return VectorAdaptor(env, device=device, dtype=dtype)


class VectorAdaptor(TorchVectorEnv):
    """Adaptor of a Gymnasium vector environment to `TorchVectorEnv`.

    A Box observation is the signal `observation`, a Dict gives one signal per key; bytes are scaled to [0, 1].
    The reward is also the training-only signal `reward`, known after the step. Its figures are `reward`, the mean of the newest
    step, and `episode_return`, the mean over sub-environments of the sum of rewards of each one's newest finished episode.

    An environment that resets in the *next* step returns the last observation of an episode, and then in a step
    whose action has no effect the first of the next; here that episode ends one step later, after its last
    observation, so that the end of an episode is always followed by the first step of another.

    Args:
        env: The environment; it is closed with the adaptor.

    Raises:
        ScenarioError: Spaces or an autoreset mode that have no translation.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        space = env.single_observation_space
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        if _REWARD in parts:
            raise ScenarioError("env: an observation is called 'reward', as the reward is; rename it")
        read = {name: _translate(name, part) for name, part in parts.items()}
        signals = {name: signal for name, (signal, _) in read.items()}
        signals[_REWARD] = Signal(training_only=True, known="after_step")
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP):
            raise ScenarioError(
                f"env: metadata['autoreset_mode'] is {mode}; make the environment with AutoresetMode.SAME_STEP"
            )
        self._env = env
        self._next_step = mode == AutoresetMode.NEXT_STEP
        self._named = isinstance(space, spaces.Dict)
        self._change: dict[str, Callable[[Tensor], Tensor]] = {
            name: change for name, (_, change) in read.items()
        }
        self._speaks_torch = False
        self._ended = torch.zeros(
            0
        )  # [2, batch]: terminations and truncations that are due with the next step
        self._shown: dict[str, Tensor] = {}
        self._rewards = torch.zeros(3, 0)  # [3, batch]: of this step, this episode so far, the last episode
        self._known = torch.zeros(2, 0, dtype=torch.bool)  # [2, batch]: a step, a finished episode has been
        super().__init__(
            env.num_envs,
            Description(signals=signals, example_counts={}, action_space=env.single_action_space),
            env.single_action_space,
            device=device,
            dtype=dtype,
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all sub-environments.

        Args:
            seed: Of the environment, and of the random actions of `step(None)`.
        """
        obs, _ = self._env.reset(seed=seed, options=options)
        if seed is not None:
            self._env.action_space.seed(seed)
        self._ended = torch.zeros(2, self.num_envs, dtype=torch.bool, device=self.device)
        self._shown = self._observe(obs)
        self._rewards = torch.zeros(3, self.num_envs, dtype=self.dtype, device=self.device)
        self._known = torch.zeros(2, self.num_envs, dtype=torch.bool, device=self.device)
        return dict(self._shown), {}

    def step(self, actions: Any = None) -> StepResult:
        """Take a step.

        Args:
            actions: As `action_space` has them, in a tensor or array; None: random actions. Of floats in a tensor
                `[batch, outputs]` the largest is the discrete action; those for a Box get its shape and bounds.

        Raises:
            ScenarioError: Logits of another number of actions.
        """
        space = self.single_action_space
        if actions is None:
            actions = self._env.action_space.sample()
        elif isinstance(actions, Tensor) and actions.is_floating_point():
            if isinstance(space, spaces.Discrete):
                actions = chosen(actions, int(space.n)) + int(space.start)
            elif isinstance(space, spaces.Box):
                low, high = self._tensor(space.low).to(actions), self._tensor(space.high).to(actions)
                actions = actions.reshape(-1, *space.shape).clamp(low, high)
        if isinstance(actions, Tensor) and not self._speaks_torch:
            actions = actions.numpy(force=True)
        obs, reward, terminated, truncated, info = self._env.step(actions)
        before, self._shown = self._shown, self._observe(obs)
        flags = torch.stack([self._tensor(terminated).bool(), self._tensor(truncated).bool()])
        if self._next_step:
            flags, self._ended = self._ended, flags
        rewards = self._tensor(reward).to(self.dtype)
        result: dict[str, Any] = {_REWARD: rewards.clone()} if _REWARD in self.requested else {}
        ended = flags.any(0)
        so_far, last = self._rewards[1] + rewards, self._rewards[2]
        self._rewards = torch.stack([rewards, so_far.masked_fill(ended, 0), torch.where(ended, so_far, last)])
        self._known = torch.stack([torch.ones_like(ended), self._known[1] | ended])
        if bool(ended.any()):
            final = before if self._next_step else self._final(info)
            result.update(final_obs=final, _final_obs=ended, final_info={}, _final_info=ended.clone())
        return dict(self._shown), rewards, flags[0], flags[1], result

    def figures(self) -> dict[str, float]:
        """Return the mean `reward` of the newest step, and the mean `episode_return` of the newest finished episodes."""
        found = {
            "reward": (self._rewards[0], self._known[0]),
            "episode_return": (self._rewards[2], self._known[1]),
        }
        return {name: values[known].mean().item() for name, (values, known) in found.items() if known.any()}

    def state_dict(self) -> dict[str, Any]:
        """Return the environment's own state.

        Raises:
            RunError: The environment has no `state_dict`.
        """
        own = {"ended": self._ended, "shown": self._shown}
        figures = {"rewards": self._rewards, "known": self._known}
        return {"env": self._stateful("state_dict")(), **own, **figures}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the environment's state.

        Raises:
            RunError: The environment has no `load_state_dict`.
        """
        load = self._stateful("load_state_dict")
        self.reset()  # many environments are initialised only by a reset
        load(state["env"])
        self._ended, self._shown = state["ended"], dict(state["shown"])
        self._rewards = state.get("rewards", self._rewards)  # earlier checkpoints have no figures
        self._known = state.get("known", self._known)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environment."""
        self._env.close(**kwargs)

    def _stateful(self, method: str) -> Callable[..., Any]:
        found = getattr(self._env.unwrapped, method, None)
        if not callable(found):
            name = type(self._env.unwrapped).__name__
            raise RunError(f"env: {name} cannot be saved or forked; give it state_dict and load_state_dict")
        return found  # type: ignore[no-any-return]

    def _tensor(self, values: Any) -> Tensor:
        """Return a copy of an environment's value, on this device."""
        if isinstance(values, Tensor):
            with torch.no_grad():
                return values.to(self.device, copy=True)
        return torch.from_numpy(np.array(values)).to(self.device)

    def _observe(self, obs: Any) -> dict[str, Tensor]:
        """Return the requested observations of all sub-environments."""
        parts = obs if self._named else {"observation": obs}
        self._speaks_torch = any(isinstance(part, Tensor) for part in parts.values())
        wanted = [name for name in self.requested if name != _REWARD]
        return {name: self._value(name, parts[name]) for name in wanted}

    def _value(self, name: str, value: Any) -> Tensor:
        kind = self.dtype if self.signals[name].classes is None else torch.int64
        return self._change[name](self._tensor(value).to(kind))

    def _final(self, info: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the last observations of ended episodes, present ones in other rows."""
        final = {name: value.clone() for name, value in self._shown.items()}
        for row in np.flatnonzero(np.asarray(info["_final_obs"])):
            last = info["final_obs"][row]
            for name, value in final.items():
                value[row] = self._value(name, last[name] if self._named else last)
        return final


def _open(name: str, batch: int) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment of an id, of its own kind if it has one, else one that resets in the step."""
    if name not in gymnasium.registry:
        raise ScenarioError(f"env: no Gymnasium environment '{name}'{suggest(name, gymnasium.registry)}")
    if gymnasium.spec(name).vector_entry_point is not None:
        return gymnasium.make_vec(name, batch)
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(name, batch, vectorization_mode="sync", vector_kwargs=mode)


def _translate(name: str, space: gymnasium.Space[Any]) -> tuple[Signal, Callable[[Tensor], Tensor]]:
    """Return the signal of an observation space, and the conversion of its values."""
    match space:
        case spaces.Box() if space.dtype == np.uint8:
            return Signal(shape=space.shape, low=0.0, high=1.0), lambda value: value / 255
        case spaces.Box():
            low, high = float(space.low.min(initial=np.inf)), float(space.high.max(initial=-np.inf))
            return Signal(shape=space.shape, low=low, high=high), lambda value: value
        case spaces.MultiBinary():
            return Signal(shape=space.shape, low=0.0, high=1.0), lambda value: value
        case spaces.Discrete():
            start = int(space.start)
            return Signal(classes=int(space.n)), lambda value: value - start
    raise ScenarioError(
        f"env: the observation '{name}' is a {type(space).__name__}; flatten it to Box, MultiBinary, Discrete or a Dict"
        " of these"
    )
