"""Environments of Gymnasium: ids and rows as vector environments, and these as torch tensors with named signals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import wrappers
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import ScenarioError, require, suggest, suggest_registered
from antiphon.base.imports import import_given, named_module
from antiphon.envs.base import StepResult, TorchVectorEnv, Values, known, may_draw_globally
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import ENDS, OUTCOMES, Description
from antiphon.envs.spaces import ActionSpace, Observations, load_random_state, random_state, tensor_of
from antiphon.nets.random import LARGEST_SEED, sampled_seeds

_NORMALISERS: Mapping[str, str] = {
    "NormalizeObservation": "write normalise: [SIGNAL], which is saved and exported",
    "NormalizeReward": "write objective: {kind: KIND, normalise: returns}, which is saved",
}
"""Wrappers with statistics that neither checkpoints nor policies would have, by name: what does the same."""


class _VectorOptions(EnvOptions, extra="allow"):
    """How a vector environment is made; all other keys are arguments of the environment."""

    vectorization_mode: Literal["sync", "async", "vector_entry_point"] | None = None
    wrappers: Mapping[str, Mapping[str, Any]] = {}


def open_vector(name: str, batch: int, options: Mapping[str, Any]) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment of an id, optionally after the module that registers it and a colon."""
    module, _, name = name.rpartition(":")
    if module:
        named_module(module, "env.id")
    if name not in gymnasium.registry:
        import_given()
    if name not in gymnasium.registry:
        fix = suggest(f"gymnasium/{name}", [f"gymnasium/{known}" for known in gymnasium.registry])
        raise ScenarioError(f"env.id: no Gymnasium environment '{name}'{suggest_registered(name, (), fix)}")
    parsed = _VectorOptions(**options)
    arguments = dict(parsed.model_extra or {})
    own = gymnasium.spec(name).vector_entry_point is not None
    mode = parsed.vectorization_mode or ("vector_entry_point" if own and not parsed.wrappers else "sync")
    if mode == "vector_entry_point":
        fix = f"the vector environment of '{name}' takes none; leave vectorization_mode out"
        require(not parsed.wrappers, "env.wrappers", fix, ScenarioError)
        try:
            return gymnasium.make_vec(name, batch, vectorization_mode=mode, **arguments)
        except TypeError as error:
            fix = "for arguments of gymnasium.make write vectorization_mode: sync"
            raise ScenarioError(f"env: '{name}' cannot be made: {error}; {fix}") from error

    def row() -> _Row:
        # `make_vec` drops arguments of the registration that `make` has too (`max_episode_steps`)
        made = gymnasium.make(name, **arguments)
        for wrapper, settings in parsed.wrappers.items():  # the innermost first
            unknown = f"no wrapper '{wrapper}' in gymnasium.wrappers{suggest(wrapper, wrappers.__all__)}"
            require(wrapper in wrappers.__all__, "env.wrappers", unknown, ScenarioError)
            made = getattr(wrappers, wrapper)(made, **settings)
        return _Row(made)

    kind = AsyncVectorEnv if mode == "async" else SyncVectorEnv
    env: VectorEnv[Any, Any, Any] = kind([row] * batch, autoreset_mode=AutoresetMode.SAME_STEP)
    env.spec = gymnasium.spec(name)  # by which errors name it
    return env


def rows_of(envs: Sequence[gymnasium.Env[Any, Any]]) -> VectorEnv[Any, Any, Any]:
    """Return environments as the rows of one that resets in the same step."""
    rows = [partial(_Row, env) for env in envs]
    return SyncVectorEnv(rows, autoreset_mode=AutoresetMode.SAME_STEP)


class _Row(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Without info, which nothing here reads: vector environments gather it in arrays of the first row's types and shapes.

    The last observation of an episode is a copy: the environment may write the next one, of its reset, into the same array.
    """

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(**settings)[0], {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        shown, reward, terminated, truncated, _ = self.env.step(action)
        return deepcopy(shown) if terminated or truncated else shown, reward, terminated, truncated, {}


def has_state(env: Any) -> bool:
    return all(callable(getattr(env, name, None)) for name in ("state_dict", "load_state_dict"))


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment and all that it wraps, the outermost first."""
    while True:
        yield env
        if not isinstance(env, gymnasium.Wrapper | VectorWrapper):
            return
        env = env.env


def _state_of(env: Any) -> dict[str, Any]:
    """Return the state of the outermost layer that has one, with what Gymnasium's own wrappers count around it."""
    counts: list[Any] = []
    for layer in _layers(env):
        if has_state(layer):
            break
        if isinstance(layer, wrappers.TimeLimit):
            counts.append(layer._elapsed_steps)
        elif isinstance(layer, wrappers.FrameStackObservation):
            counts.append([torch.from_numpy(np.array(frame)) for frame in layer.obs_queue])
    return {
        "env": layer.state_dict(),
        "counts": counts,
        "random": env.unwrapped.np_random.bit_generator.state,
    }


def _load_state_of(env: Any, state: Mapping[str, Any]) -> None:
    counts = iter(state["counts"])
    for layer in _layers(env):
        if has_state(layer):
            break
        if isinstance(layer, wrappers.TimeLimit):
            layer._elapsed_steps = next(counts)
        elif isinstance(layer, wrappers.FrameStackObservation):
            layer.obs_queue.extend(frame.numpy() for frame in next(counts))
    layer.load_state_dict(state["env"])
    env.unwrapped.np_random.bit_generator.state = state["random"]


class VectorAdaptor(TorchVectorEnv):
    """Adaptor of a Gymnasium vector environment to `TorchVectorEnv`; closing this closes it.

    For signals see `Observations`, for actions `ActionSpace`. The outcomes `reward`, `terminated` and `truncated`
    are training-only signals, known after their step.

    The end of an episode is always followed by the first step of another. Sub-environments that reset in the *next* step
    (NEXT_STEP) return the last observation of an episode, and then, in a step whose action has no effect, the first
    observation of the next episode. There the returned end is one step late, after the last observation, but the signals
    `terminated` and `truncated` belong to the step that ended the episode, and the mask `_reward` leaves out the step that
    only resets (if the ends are requested too: a supervised scenario learns from every reward).

    It is saved if the vector environment, or each row of a SyncVectorEnv, has `state_dict` and `load_state_dict`.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], **settings: Any) -> None:
        self.observations = Observations(env.single_observation_space)
        self.actions = ActionSpace(env.single_action_space)
        self.given, base, mode = env, env.unwrapped, env.metadata.get("autoreset_mode")
        self.rows: list[Any] = list(base.envs) if isinstance(base, SyncVectorEnv) else []
        """The environments of a SyncVectorEnv."""
        inner = self.rows[0].unwrapped if self.rows else base
        self.name = getattr(getattr(base, "spec", None), "id", type(inner).__name__)
        unknown = f"metadata['autoreset_mode'] is {mode}; use AutoresetMode.SAME_STEP or NEXT_STEP"
        require(mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP), "env", unknown, ScenarioError)
        self._saved = self.rows if self.rows and not any(map(has_state, _layers(env))) else [env]
        for name in (type(layer).__name__ for row in (env, *self.rows[:1]) for layer in _layers(row)):
            fix = f"leave the wrapper {name} out, and {_NORMALISERS.get(name)}"
            require(name not in _NORMALISERS, "env", fix, ScenarioError)
        description = Description(
            signals={**self.observations.signals, **OUTCOMES},
            action_space=self.actions.space,
            can_be_saved=all(any(map(has_state, _layers(row))) for row in self._saved),
        )
        super().__init__(env.num_envs, description, self.actions.space, **settings)
        self.draws_globally = may_draw_globally(inner)
        self.late_ends = mode is AutoresetMode.NEXT_STEP
        self._speaks_torch = False
        self._ended = np.zeros((2, 0), bool)
        """Terminations and truncations due with the next step, [2, batch]."""
        self._shown: dict[str, Tensor] = {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all sub-environments; the seeds of each, and of random actions, are sampled from the seed."""
        seeds: Any = None
        if seed is not None:
            by_row = isinstance(self.given.unwrapped, SyncVectorEnv | AsyncVectorEnv)
            largest = LARGEST_SEED if by_row else LARGEST_SEED - self.num_envs + 1  # others may add the row
            actions, *rows = sampled_seeds(seed, 1 + self.num_envs if by_row else 2, largest)
            seeds = rows if by_row else rows[0]
        obs, _ = self.given.reset(seed=seeds, options=options)
        if seed is not None:
            self.given.action_space.seed(actions)
        self._ended = np.zeros((2, self.num_envs), bool)
        self._shown = self._observe(obs)
        return dict(self._shown), {}

    def step(self, actions: Any = None) -> StepResult:
        """Take a step; for actions see `ActionSpace.translated`, None: random ones."""
        sample = self.given.action_space.sample
        if actions is None:
            actions = sample()
        else:
            actions = self.actions.translated(actions, sample, arrays=not self._speaks_torch)
        obs, reward, terminated, truncated, info = self.given.step(actions)
        before, self._shown = self._shown, self._observe(obs)
        flags = (
            each.numpy(force=True) if isinstance(each, Tensor) else each for each in (terminated, truncated)
        )
        happened = due = np.array([*flags], bool)
        rewards = tensor_of(reward, self.device).to(self.dtype)
        if self.late_ends:
            due, self._ended = self._ended, happened
        over = due[0] | due[1]
        none_over = not np.count_nonzero(over)  # faster than `any`
        result = self._outcomes(rewards, happened, None if none_over else over)
        if none_over:
            return dict(self._shown), rewards, self.everywhere(False), self.everywhere(False), result
        ended, *ends = (self._mask(rows, torch.bool) for rows in (over, *due))
        final = self._final(before, info, ended)
        result.update(final_obs=final, _final_obs=ended, final_info={}, _final_info=ended)
        return dict(self._shown), rewards, ends[0], ends[1], result

    def _outcomes(
        self, rewards: Tensor, ends: NDArray[np.bool_], over: NDArray[np.bool_] | None
    ) -> dict[str, Any]:
        """Return the requested outcomes of a step, [batch] each, and the mask of those that it left out.

        `ends`: terminations and truncations, [2, batch]. `over`: where the step may have reset alone, [batch]; None: nowhere.
        """
        outcomes: dict[str, Any] = {"reward": rewards} if "reward" in self.requested else {}
        for name, rows in zip(ENDS, ends, strict=True):
            if name in self.requested:
                outcomes[name] = self._mask(rows, self.dtype)
        if self.late_ends and "reward" in outcomes and len(outcomes) > 1:
            counts = self.everywhere(True) if over is None else torch.from_numpy(~over).to(self.device)
            outcomes["_reward"] = counts
        return outcomes

    def _mask(self, rows: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
        """Return a mask, [batch], of which the host knows whether it holds anywhere."""
        if np.count_nonzero(rows):
            return known(torch.from_numpy(rows).to(self.device, dtype), None)
        return known(torch.zeros(self.num_envs, dtype=dtype, device=self.device), False)

    def _observe(self, obs: Any) -> dict[str, Tensor]:
        parts = {name: self.observations.part(name, obs) for name in self.observations.signals}
        self._speaks_torch = any(isinstance(value, Tensor) for value in parts.values())
        return {
            name: self.observations.value(name, parts[name], self.device, self.dtype)
            for name in self.requested
            if name in parts
        }

    def _final(self, before: dict[str, Tensor], info: Mapping[str, Any], ended: Tensor) -> dict[str, Tensor]:
        """Return the last observations of ended episodes, present ones in other rows."""
        if self.late_ends:
            return before
        final_obs, rows = info["final_obs"], ended.nonzero().flatten().tolist()
        part, batched = self.observations.part, isinstance(final_obs, Mapping)  # as observations are
        final = {name: value.clone() for name, value in self._shown.items()}
        for name, value in final.items():
            for row in rows:
                native = part(name, final_obs)[row] if batched else part(name, final_obs[row])
                value[row] = self.observations.value(name, native, self.device, self.dtype)
        return final

    def state_dict(self) -> dict[str, Any]:
        self._require_state()
        return {
            "env": [_state_of(row) for row in self._saved],
            "ended": torch.tensor(self._ended, device=self.device),
            "shown": self._shown,
            "random": random_state(self.given.action_space),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._require_state()
        self.reset()  # many environments are initialised only by a reset
        for row, saved in zip(self._saved, state["env"], strict=True):
            _load_state_of(row, saved)
        if isinstance(base := self.given.unwrapped, SyncVectorEnv):
            base._autoreset_envs = np.array(state["ended"].any(0).numpy(force=True))
        self._ended, self._shown = state["ended"].clone().numpy(force=True), dict(state["shown"])
        load_random_state(self.given.action_space, state["random"])

    def close_extras(self, **kwargs: Any) -> None:
        self.given.close(**kwargs)
