"""Adaptor of vmas: scenarios of many agents whose rows are computed at once, in torch (Bettini et al. 2022, 2207.03530)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import Tensor

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.envs.adaptors.checked import Adaptor, checked, making
from antiphon.envs.adaptors.spaces import ActionSpace, Observations, ids_of, tensor_of
from antiphon.envs.adaptors.wrappers import LayersOfBatch
from antiphon.envs.base import StepResult, Values
from antiphon.envs.signal import OUTCOMES
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.random import sampled_seeds

_OWN = frozenset(
    {
        "num_envs",
        "device",
        "seed",
        "wrapper",
        "wrapper_kwargs",
        "dict_spaces",
        "grad_enabled",
        "terminated_truncated",
    }
)
"""Arguments of vmas that a run decides."""


class VmasScenario:
    """A scenario of vmas, as a source of environments.

    Args:
        name: The scenario, such as `balance`.
        batch: Number of environments, which `make` is called with again.
        options: `max_steps`, `continuous_actions`, and arguments of the scenario.

    Raises:
        ScenarioError: vmas is not installed, or has no such scenario; a key that a run decides.
    """

    def __init__(self, name: str, batch: int, options: Mapping[str, Any]) -> None:
        try:
            vmas: Any = import_module("vmas")
        except ModuleNotFoundError:
            raise ScenarioError("env.id: vmas is not installed; pip install vmas") from None
        names = [*vmas.scenarios, *vmas.mpe_scenarios, *vmas.debug_scenarios]
        if name not in names:
            raise ScenarioError(f"env.id: vmas has no scenario '{name}'{suggest(name, names)}")
        for key in _OWN.intersection(options):
            raise ScenarioError(f"env.{key}: cannot be set in vmas' environments; leave it out")
        self.name, self.options, self._make = name, dict(options), vmas.make_env

    def make(self, *, batch: int, device: torch.device | str, dtype: torch.dtype, split: str) -> VmasAdaptor:
        """Make the environments; ScenarioError if options do not fit."""
        with making(self.name), warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*passed but not used")  # a key that no scenario has
            settings = {"num_envs": batch, "device": device, "terminated_truncated": True}
            world = self._make(self.name, **{**self.options, **settings})
        return VmasAdaptor(world, self.name, device=device, dtype=dtype)


class VmasAdaptor(Adaptor):
    """Adaptor of an environment of vmas to `TorchVectorEnv`; its tensors stay on their device.

    An agent's observation is the signal `AGENT.observation`, or one signal per key of a Dict. The actions are a Dict with a part
    per agent; agents without an actor act at random. Training-only signals are `reward.AGENT` of each agent and `reward`, their
    mean. Its random numbers are its own, although vmas has one state for all environments of a process.
    """

    interface = "vmas' interface", "a loop over env.step(env.get_random_actions())"
    signatures = ""

    def __init__(self, env: Any, name: str, **settings: Any) -> None:
        self._env = env
        self._agents = [str(agent.name) for agent in env.agents]
        pairs = zip(self._agents, env.observation_space, strict=True)
        self.observations = {agent: Observations(_standard(space), f"{agent}.") for agent, space in pairs}
        native = spaces.Dict(dict(zip(self._agents, map(_standard, env.action_space), strict=True)))
        self._native = batch_space(native, env.num_envs)
        signals = {
            key: signal
            for observations in self.observations.values()
            for key, signal in observations.signals.items()
        }
        self.ids = ids_of(self._agents)
        signals |= self.ids
        signals |= {f"reward.{agent}": OUTCOMES["reward"] for agent in self._agents}
        reasons = {
            key: why
            for observations in self.observations.values()
            for key, why in observations.unreadable.items()
        }
        settings |= {"layers": LayersOfBatch(env, []), "unreadable": reasons}
        acted = ActionSpace(native)
        self._random: list[Any] | None = None
        super().__init__([env], [], name, env.num_envs, signals, acted, can_be_saved=False, **settings)

    @contextmanager
    def _computing(self, call: str) -> Iterator[None]:
        """Have vmas compute with this environment's random numbers, and report its errors in one line."""
        shared = self._env.vmas_random_state
        before, shared[:] = list(shared), self._random or list(shared)
        try:
            with self._failing(call), torch.no_grad():
                yield
        finally:
            self._random, shared[:] = list(shared), before

    @in_own_context
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Values:
        """Reset all rows; the seeds of the environment and of random actions are sampled from the seed."""
        env_seed = None
        if seed is not None:
            actions, env_seed = sampled_seeds(seed, 2)
            self._native.seed(actions)
        with self._computing("reset"):
            shown = self._env.reset(seed=env_seed)
        return self._divide(self._observe(shown))

    @in_own_context
    def step(self, actions: Any = None) -> StepResult:
        """Take a step; actions are a mapping of parts, see `ActionSpace`. Missing parts are random."""
        choices = {} if actions is None else actions
        native = self.actions.translated(choices, self._native.sample, arrays=False)
        rows = self.num_envs
        moves = [
            torch.as_tensor(native[agent], device=self.device).reshape(rows, -1) for agent in self._agents
        ]
        with self._computing("step"):
            shown, rewards, terminated, truncated, _ = self._env.step([action.clone() for action in moves])
        truncated = truncated & ~terminated
        facts: dict[str, Any] = {}
        rewards = [
            tensor_of(f"reward.{agent}", reward, self.device)
            for agent, reward in zip(self._agents, rewards, strict=True)
        ]
        for agent, reward in zip(self._agents, rewards, strict=True):
            if (name := f"reward.{agent}") in self.requested:
                facts[name] = checked(name, OUTCOMES["reward"], reward.to(self.dtype), rows, reward)
        mean = torch.stack([reward.to(self.dtype) for reward in rewards]).mean(0)
        outcomes = dict(zip(OUTCOMES, (mean, terminated, truncated), strict=True))
        facts |= {
            name: value.to(self.dtype, copy=True)
            for name, value in outcomes.items()
            if name in self.requested
        }
        ended = terminated | truncated
        values = self._observe(shown)
        if bool(ended.any()):
            last, hidden = self._divide(values)
            facts |= {
                "final_obs": last,
                "_final_obs": ended,
                "final_info": hidden,
                "_final_info": ended.clone(),
            }
            with self._computing("reset"):
                for row in ended.nonzero().flatten().tolist():
                    self._env.reset_at(row, return_observations=False)
                shown = self._env.get_from_scenario(
                    get_observations=True, get_rewards=False, get_infos=False, get_dones=False
                )[0]
            values = self._observe(shown)
        observations, hidden = self._divide(values)
        return observations, mean, terminated, truncated, {**facts, **hidden}

    def _observe(self, shown: Any) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        for (_, observations), observation in zip(self.observations.items(), shown, strict=True):
            for name, signal in observations.signals.items():
                if name in self.requested:
                    native = observations.part(name, observation)
                    value = observations.value(name, native, self.device, self.dtype)
                    values[name] = checked(name, signal, value, self.num_envs, native)
        for index, name in enumerate(self.ids):
            if name in self.requested:
                values[name] = torch.full((self.num_envs,), index, device=self.device)
        return values

    def state_dict(self) -> dict[str, Any]:
        """Raise RunError: vmas' environments have no state_dict."""
        self._require_state()
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raise RunError: vmas' environments have no load_state_dict."""
        self._require_state()

    def close_extras(self, **kwargs: Any) -> None:
        """Do nothing: vmas has nothing to close."""


def _standard(space: Any) -> spaces.Space[Any]:
    """Return a space of Gym, which vmas still has, as one of Gymnasium."""
    match type(space).__name__:
        case "Dict":
            return spaces.Dict({key: _standard(subspace) for key, subspace in space.spaces.items()})
        case "Discrete":
            return spaces.Discrete(int(space.n))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(space.nvec)
    return spaces.Box(space.low, space.high, dtype=space.dtype.type)
