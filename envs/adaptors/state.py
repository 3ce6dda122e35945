"""State of Gymnasium vector environments, their own or that of their sub-environments, and of random actions."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from torch import Tensor

from antiphon.envs.adaptors.spaces import leaves

__all__ = ["can_be_saved", "has_state", "load_random_state", "load_state", "random_state", "state_of"]


def can_be_saved(env: VectorEnv[Any, Any, Any]) -> bool:
    """Whether there are `state_dict` and `load_state_dict`: of the environment, or of all its sub-environments.

    Sub-environments may have a time limit, but no other wrapper that has a state.
    """
    return has_state(env.unwrapped) or _sub_environments(env) is not None


def state_of(env: VectorEnv[Any, Any, Any]) -> Any:
    """Return the state of an environment that `can_be_saved`."""
    subs = _sub_environments(env)
    if subs is None:
        return env.unwrapped.state_dict()  # type: ignore[attr-defined]
    return [
        {"env": sub.unwrapped.state_dict(), "elapsed": [limit._elapsed_steps for limit in _limits(sub)]}  # type: ignore[attr-defined]
        for sub in subs
    ]


def load_state(env: VectorEnv[Any, Any, Any], state: Any, ended: Tensor) -> None:
    """Load a state, of `state_of`, into an environment that has been reset.

    Args:
        ended: [batch] bool: which sub-environments are to be reset by their next step.
    """
    subs = _sub_environments(env)
    if subs is None:
        env.unwrapped.load_state_dict(state)  # type: ignore[attr-defined]
        return
    for sub, saved in zip(subs, state, strict=True):
        sub.unwrapped.load_state_dict(saved["env"])  # type: ignore[attr-defined]
        for limit, elapsed in zip(_limits(sub), saved["elapsed"], strict=True):
            limit._elapsed_steps = elapsed
    vector = env.unwrapped
    assert isinstance(vector, SyncVectorEnv)
    vector._autoreset_envs = np.array(ended.numpy(force=True))


def random_state(space: Space[Any]) -> list[Any]:
    """Return the state of a space's random samples."""
    return [leaf.np_random.bit_generator.state for leaf in leaves(space).values()]


def load_random_state(space: Space[Any], state: list[Any]) -> None:
    """Load a state, of `random_state`."""
    for leaf, each in zip(leaves(space).values(), state, strict=True):
        leaf.np_random.bit_generator.state = each


def has_state(env: Any) -> bool:
    """Whether an environment has `state_dict` and `load_state_dict`."""
    return all(callable(getattr(env, name, None)) for name in ("state_dict", "load_state_dict"))


def _sub_environments(env: VectorEnv[Any, Any, Any]) -> list[gymnasium.Env[Any, Any]] | None:
    """Return the sub-environments whose states are that of a vector environment; None: it is not theirs."""
    if not isinstance(env, SyncVectorEnv) or has_state(env):
        return None
    subs = list(env.envs)
    plain = all(
        isinstance(wrapper, OrderEnforcing | PassiveEnvChecker | TimeLimit)
        for sub in subs
        for wrapper in _wrappers(sub)
    )
    return subs if plain and all(has_state(sub.unwrapped) for sub in subs) else None


def _wrappers(env: gymnasium.Env[Any, Any]) -> list[gymnasium.Wrapper[Any, Any, Any, Any]]:
    found = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(env)
        env = env.env
    return found


def _limits(env: gymnasium.Env[Any, Any]) -> list[TimeLimit[Any, Any]]:
    return [wrapper for wrapper in _wrappers(env) if isinstance(wrapper, TimeLimit)]
