"""Adaptor of Gymnasium vector environments: torch tensors, named signals, resets in the same step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, require
from antiphon.envs.adaptors.checked import Adaptor, checked, has_state, load_random_state, random_state
from antiphon.envs.adaptors.spaces import ActionSpace, Observations, flags_of, masks_in, tensor_of
from antiphon.envs.adaptors.wrappers import LayersOfBatch
from antiphon.envs.base import StepResult, Values
from antiphon.envs.signal import ENDS, OUTCOMES
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.random import LARGEST_SEED, sampled_seeds


class VectorAdaptor(Adaptor):
    """Adaptor of a Gymnasium vector environment to `TorchVectorEnv`.

    For signals see `Observations`, for actions `ActionSpace`. The outcomes `reward`, `terminated` and `truncated`
    are training-only signals, known after their step.

    `step` returns the same for all three autoreset modes: the end of an episode is always followed by the first step of
    another. Sub-environments without autoreset (DISABLED) are reset here. Sub-environments that reset in the *next* step
    (NEXT_STEP) return the last observation of an episode, and then, in a step whose action has no effect, the first
    observation of the next episode. There the returned end is one step late, after the last observation, but the signals
    `terminated` and `truncated` belong to the step that ended the episode, and the mask `_reward` leaves out the step that
    only resets (if the ends are requested too: a supervised scenario learns from every reward).

    Raises:
        ScenarioError: Spaces or an autoreset mode that are not supported.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], **settings: Any) -> None:
        for member in ("num_envs", "single_observation_space", "single_action_space"):
            lacks = f"{type(env).__name__} has no {member}; set it in __init__"
            require(hasattr(env, member), "env", lacks, ScenarioError)
        self.observations = Observations(env.single_observation_space)
        mode = env.metadata.get("autoreset_mode")
        unknown = f"metadata['autoreset_mode'] is {mode}; make the environment with AutoresetMode.SAME_STEP"
        require(isinstance(mode, AutoresetMode), "env", unknown, ScenarioError)
        signals, actions = self.observations.signals, ActionSpace(env.single_action_space)
        base = env.unwrapped
        inner = base.envs[0].unwrapped if isinstance(base, SyncVectorEnv) else base  # which errors name
        name = getattr(getattr(base, "spec", None), "id", type(inner).__name__)
        self._subs = list(base.envs) if isinstance(base, SyncVectorEnv) and not has_state(base) else None
        stateful = [base] if self._subs is None else [sub.unwrapped for sub in self._subs]
        settings |= {
            "layers": LayersOfBatch(env, self._subs or []),
            "unreadable": self.observations.unreadable,
        }
        saved = all(map(has_state, stateful))
        super().__init__(
            [env], self._subs or [], name, env.num_envs, signals, actions, can_be_saved=saved, **settings
        )
        self._env, self._mode, self._speaks_torch = env, mode, False
        self.late_ends = mode is AutoresetMode.NEXT_STEP
        self._waits = all(callable(getattr(env, name, None)) for name in ("step_async", "step_wait"))
        self._ended = np.zeros(
            (2, 0), bool
        )  # [2, batch]: terminations and truncations due with the next step
        self._shown: dict[str, Tensor] = {}

    @in_own_context
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all sub-environments; the seeds of each, and of random actions, are sampled from the seed."""
        seeds: Any = None
        if seed is not None:
            by_row = isinstance(self._env.unwrapped, SyncVectorEnv | AsyncVectorEnv)
            largest = LARGEST_SEED if by_row else LARGEST_SEED - self.num_envs + 1  # others may add the row
            actions, *rows = sampled_seeds(seed, 1 + self.num_envs if by_row else 2, largest)
            seeds = rows if by_row else rows[0]
            self._numbers.seed(actions)
        with self._calling("reset"):
            obs, info = self._env.reset(seed=seeds, options=options)
        if seed is not None:
            self._env.action_space.seed(actions)
        self.masks_in_info = [name for name in masks_in(info) if name not in self.signals]
        self._ended = np.zeros((2, self.num_envs), bool)
        self._shown = self._observe(obs)
        self._remember()
        return dict(self._shown), {}

    @in_own_context
    def step(self, actions: Any = None) -> StepResult:
        """Take a step: `send` and `receive`."""
        self._send(actions)
        return self._receive()

    @in_own_context
    def send(self, actions: Any = None) -> None:
        """Begin a step; an environment with `step_async` and `step_wait` takes it until `receive`, any other at once.

        Args:
            actions: Actions in `action_space`, as tensors or arrays; None: random actions. For a float tensor
                `[batch, outputs]` the discrete action is the index of the largest; for a Box it is reshaped and clamped.
                For a Dict, a mapping; missing parts are random.
        """
        self._send(actions)

    @in_own_context
    def receive(self) -> StepResult:
        return self._receive()

    def _send(self, actions: Any) -> None:
        sample = self._env.action_space.sample
        if actions is None:
            actions = sample()
        else:
            actions = self.actions.translated(actions, sample, arrays=not self._speaks_torch)
        with self._calling("step"):
            if self._waits:
                self._env.step_async(actions)  # type: ignore[attr-defined]
            else:
                self._returned = self._env.step(actions)

    def _receive(self) -> StepResult:
        if self._waits:
            with self._calling("step"):
                self._returned = self._env.step_wait()  # type: ignore[attr-defined]
        with self._failing("step"):
            obs, reward, terminated, truncated, info = self._returned
        before, self._shown = self._shown, self._observe(obs)
        flags = [flags_of(name, values) for name, values in zip(ENDS, (terminated, truncated), strict=True)]
        for name, flag in zip(ENDS, flags, strict=True):
            if flag.shape != (self.num_envs,):
                wrong = f"{list(flag.shape)}, not [{self.num_envs}]; return one for each sub-environment"
                raise RunError(f"env: '{name}' is {wrong}")
        happened = due = np.array(flags)
        native_reward = tensor_of("reward", reward, self.device)
        rewards = checked(
            "reward", OUTCOMES["reward"], native_reward.to(self.dtype), self.num_envs, native_reward
        )
        if self.late_ends:
            due, self._ended = self._ended, happened
        over = due[0] | due[1]
        none_over = not np.count_nonzero(over)  # faster than `any`
        result = self._outcomes(rewards, happened, None if none_over else over)
        if none_over:
            return dict(self._shown), rewards, self.everywhere(False), self.everywhere(False), result
        ended, *ends = (self._mask(rows, torch.bool) for rows in (over, *due))
        final = self._final(before, obs, info, ended)
        result.update(final_obs=final, _final_obs=ended, final_info={}, _final_info=ended)
        return dict(self._shown), rewards, ends[0], ends[1], result

    def _outcomes(
        self, rewards: Tensor, ends: NDArray[np.bool_], over: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        """Return the requested outcomes of a step, [batch] each, and the mask of those that it left out.

        Args:
            rewards: [batch].
            ends: [2, batch]: terminations and truncations.
            over: [batch]: where the step may have reset alone; None: nowhere.
        """
        outcomes: dict[str, Any] = {"reward": rewards} if "reward" in self.requested else {}
        for name, rows in zip(ENDS, ends, strict=True):
            if name in self.requested:
                outcomes[name] = self._mask(rows, self.dtype)
        if self.late_ends and "reward" in outcomes and len(outcomes) > 1:
            outcomes["_reward"] = (
                self.everywhere(True) if over is None else torch.from_numpy(~over).to(self.device)
            )
        return outcomes

    def _mask(self, rows: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
        """Return a mask, [batch], of which the host knows whether it holds anywhere."""
        if np.count_nonzero(rows):
            return self._known(torch.from_numpy(rows).to(self.device, dtype), None)
        return self._known(torch.zeros(self.num_envs, dtype=dtype, device=self.device), False)

    def state_dict(self) -> dict[str, Any]:
        self._require_state()
        base: Any = self._env.unwrapped
        with self._calling("state_dict"):
            env_state = base.state_dict() if self._subs is None else [_state_of(sub) for sub in self._subs]
        saved = {
            "env": env_state,
            "wrappers": self._layers.state_dict(),
            "ended": torch.tensor(self._ended, device=self.device),
            "shown": self._shown,
        }
        return {
            **saved,
            "random": random_state(self._env.action_space),
            "numbers": self._numbers.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._require_state()
        self.reset()  # many environments are initialised only by a reset
        base: Any = self._env.unwrapped
        self._layers.load_state_dict(state["wrappers"])
        with self._calling("load_state_dict"):
            if self._subs is None:
                base.load_state_dict(state["env"])
            else:
                for sub, saved in zip(self._subs, state["env"], strict=True):
                    sub.unwrapped.load_state_dict(saved["env"])  # type: ignore[attr-defined]
        if self._subs is not None:
            base._autoreset_envs = np.array(state["ended"].any(0).numpy(force=True))
        self._ended, self._shown = state["ended"].clone().numpy(force=True), dict(state["shown"])
        load_random_state(self._env.action_space, state["random"])
        self._numbers.load_state_dict(state["numbers"])

    def _observe(self, obs: Any) -> dict[str, Tensor]:
        with self._failing("step"):
            parts = {name: self.observations.part(name, obs) for name in self.observations.signals}
        self._speaks_torch = any(isinstance(value, Tensor) for value in parts.values())
        values: dict[str, Tensor] = {}
        for name in (name for name in self.requested if name in parts):
            value = self.observations.value(name, parts[name], self.device, self.dtype)
            values[name] = checked(name, self.signals[name], value, self.num_envs, parts[name])
        return values

    def _final(
        self, before: dict[str, Tensor], obs: Any, info: Mapping[str, Any], ended: Tensor
    ) -> dict[str, Tensor]:
        """Return the last observations of ended episodes, present ones in other rows; resets those without autoreset."""
        if self._mode is AutoresetMode.NEXT_STEP:
            return before
        if self._mode is AutoresetMode.DISABLED:
            last = self._shown
            with self._calling("reset"):
                obs, _ = self._env.reset(options={"reset_mask": ended.numpy(force=True)})
            self._shown = self._observe(obs)
            return last
        wrong = f"'{self._name}' returns a {type(info).__name__} as info, not Gymnasium's dict; leave out DictInfoToList"
        require(isinstance(info, Mapping), "env", wrong, RunError)
        final_obs: Any = info.get("final_obs")
        final = {name: value.clone() for name, value in self._shown.items()}
        rows = ended.nonzero().flatten().tolist()
        is_batched = isinstance(final_obs, Mapping) or (
            isinstance(final_obs, tuple) and isinstance(self._env.single_observation_space, spaces.Tuple)
        )
        shown: Any = info.get("_final_obs")
        has_rows = final_obs is not None and (shown is None or all(shown[row] for row in rows))
        if not has_rows or not (is_batched or all(final_obs[row] is not None for row in rows)):
            raise RunError(
                f"env: '{self._name}' resets an ended episode in the same step, and info has no final_obs of it; return "
                "final_obs and the mask _final_obs (Gymnasium's AutoresetMode.SAME_STEP), or reset in the next step "
                "(metadata['autoreset_mode'] = AutoresetMode.NEXT_STEP)"
            )
        if is_batched:  # a batch, as observations are
            final = {n: _in_rows(ended, value, final[n]) for n, value in self._observe(final_obs).items()}
            self._check_kept(before, obs, final_obs, final, rows)
            return final
        for row in rows:
            for name, value in final.items():
                with self._failing("step"):
                    native = self.observations.part(name, final_obs[row])
                tensor = self.observations.value(name, native, self.device, self.dtype)
                wrong = (
                    f"'{name}' of final_obs is {list(tensor.shape)}, but its space is {list(value.shape[1:])}"
                )
                require(tensor.shape == value.shape[1:], "env", wrong, RunError)  # torch would repeat fewer
                value[row] = tensor
        base: Any = self._env.unwrapped
        as_they_are = base.single_observation_space is self._env.single_observation_space
        by_row = isinstance(base, SyncVectorEnv) and as_they_are  # else wrappers have made others of them
        for row in rows:
            self._check_kept(before, base._env_obs[row] if by_row else obs, final_obs[row], final, [row])
        return {
            name: checked(name, self.signals[name], value, self.num_envs) for name, value in final.items()
        }

    def _check_kept(
        self, before: dict[str, Tensor], reset_to: Any, last: Any, final: dict[str, Tensor], rows: list[int]
    ) -> None:
        """Raise a RunError if the reset has overwritten the last observations of some rows.

        They lie in the memory of those that it returned, and that memory changes: it is no constant.
        """
        for name, value in final.items():
            last_part, new_part = (
                _host_array(self.observations.part(name, shown)) for shown in (last, reset_to)
            )
            has_changed = not torch.equal(value[rows], before[name][rows])
            if has_changed and np.shares_memory(last_part, new_part):
                raise RunError(
                    f"env: the reset of '{self._name}' overwrites '{name}' of the step before, which final_obs has; return a "
                    "copy from step()"
                )


def _host_array(values: Any) -> NDArray[Any]:
    return values.numpy(force=True) if isinstance(values, Tensor) else np.asarray(values)


def _state_of(sub: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """Return the state of a sub-environment without its wrappers."""
    base: Any = sub.unwrapped
    return {"env": base.state_dict()}


def _in_rows(mask: Tensor, where_true: Tensor, where_false: Tensor) -> Tensor:
    return torch.where(mask.view(-1, *(1 for _ in where_true.shape[1:])), where_true, where_false)
