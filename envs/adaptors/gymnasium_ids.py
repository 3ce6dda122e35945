"""Vector environments of Gymnasium's registry, by id and with the options of a scenario."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import CustomSpaceError
from gymnasium.spaces import Box
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import create_shared_memory
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from antiphon.base.errors import ScenarioError
from antiphon.base.imports import import_allowed, imported_by_name
from antiphon.base.nearest_names import suggest, suggest_registered
from antiphon.envs.adaptors.checked import arguments_of, making
from antiphon.envs.adaptors.final_observation import FinalObservation
from antiphon.envs.env_keys import StackOptions
from antiphon.envs.signal import channel_axis

_OWN = {"id", "num_envs", "vector_kwargs", "wrappers"}
"""Arguments of `make_vec` that a scenario file cannot set."""
_LIMIT = "max_episode_steps"

_INSTEAD = {"max_steps": "write max_episode_steps and vectorization_mode: sync"}
"""Keys of other environments, and what Gymnasium's have instead."""


class _VectorOptions(StackOptions, extra="allow"):
    """How a vector environment is made; all other keys are arguments of the environment."""

    vectorization_mode: Literal["sync", "async", "vector_entry_point"] | None = None


def open_vector(name: str, batch: int, options: Mapping[str, Any]) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment of an id.

    Args:
        name: The id, optionally after the module that registers it and a colon, if it may be imported (`allow_import`).
        options: `vectorization_mode` (`sync`, `async` or `vector_entry_point`; left out: the id's own vector environment
            if it has one, else `sync`), `stack`, and arguments of the environment.

    Raises:
        ScenarioError: There is no such id, mode or option, or the environment cannot be made.
    """
    module, _, name = name.rpartition(":")
    registering = imported_by_name(module, "env.id") if module else None
    if name not in gymnasium.registry:
        import_allowed()
    if name not in gymnasium.registry:
        fix = f"; name the class itself: {module}:{name}" if hasattr(registering, name) else _nearest(name)
        raise ScenarioError(f"env.id: no Gymnasium environment '{name}'{fix}")
    parsed = _VectorOptions(**options)
    mode, arguments = parsed.vectorization_mode, dict(parsed.model_extra or {})
    if arguments.get(_LIMIT, 0) is None:  # the registration's, to `gymnasium.make`; vector classes compare it
        del arguments[_LIMIT]
    for key in arguments.keys() & _OWN:
        meaning = "use training.batch" if key == "num_envs" else "a scenario file has no Python objects"
        raise ScenarioError(f"env.{key}: cannot be set, {meaning}; leave it out")
    chosen = mode is None and gymnasium.spec(name).vector_entry_point is not None
    if mode is None:
        mode = "vector_entry_point" if chosen else "sync"
    if mode == "vector_entry_point" and arguments.get(_LIMIT) == -1:
        fix = "write vectorization_mode: sync"
        raise ScenarioError(f"env.{_LIMIT}: the vector environment of '{name}' has a limit; {fix}")
    if mode == "vector_entry_point" and parsed.stack is not None:
        fix = "write vectorization_mode: sync, or use an option of its own"
        raise ScenarioError(f"env.stack: the vector environment of '{name}' is not stacked; {fix}")
    fix = ""
    if chosen and arguments:
        fix = "its own vector class may lack a key; for arguments of gymnasium.make write vectorization_mode: sync"
    make_one = (
        partial(gymnasium.make_vec, name, 1, vectorization_mode=mode)
        if mode == "vector_entry_point"
        else partial(gymnasium.make, name)
    )
    with making(name, fix, arguments, _INSTEAD, make_one, _arguments_of(name)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render_mode")  # which is checked here
        if mode == "vector_entry_point":
            env = gymnasium.make_vec(name, batch, vectorization_mode=mode, **arguments)
        else:
            row = partial(_make, name, arguments, parsed.stack, alone=mode == "async")
            resets: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
            if mode == "async":
                env = AsyncVectorEnv([row] * batch, shared_memory=_can_be_shared(row), **resets)
            else:
                env = SyncVectorEnv([row] * batch, **resets)
            env.spec = gymnasium.spec(name)  # by which errors name it
    return env


def _arguments_of(name: str) -> dict[str, bool]:
    """Return the arguments of an id's class or factory, and whether each is a flag; none where it cannot be imported or has no signature."""
    spec = gymnasium.spec(name)
    entry, registered = spec.entry_point, {key: isinstance(value, bool) for key, value in spec.kwargs.items()}
    with suppress(Exception):  # making it reports why
        return registered | arguments_of(load_env_creator(entry) if isinstance(entry, str) else entry)
    return {}


def _make(
    name: str, arguments: Mapping[str, Any], stack: int | None, *, alone: bool
) -> gymnasium.Env[Any, Any]:
    """Make one environment of an id; `make_vec` drops arguments of the registration that `make` has too (`max_episode_steps`)."""
    return row_of(gymnasium.make(name, **arguments), stack, alone=alone)


def row_of(
    env: gymnasium.Env[Any, Any], stack: int | None = None, *, alone: bool = False
) -> gymnasium.Env[Any, Any]:
    """Return an environment as a row of a vector environment; `stack`: how many of the newest observations are seen at once."""
    return FinalObservation(env if stack is None else _stacked(env, stack), alone=alone)


def _stacked(env: gymnasium.Env[Any, Any], count: int) -> gymnasium.Env[Any, Any]:
    """Show the newest observations, the oldest first: images joined along their channels, vectors along their only axis."""
    single = env.observation_space
    if not isinstance(single, Box):
        fix = "leave it out, or stack its parts in the environment"
        raise ScenarioError(f"env.stack: the observation is a {type(single).__name__}, and no Box; {fix}")
    stacked = FrameStackObservation(env, count)
    if len(single.shape) not in (1, 3):
        return stacked
    last = len(single.shape) == 3 and channel_axis(single.shape) == "last"
    join = partial(np.concatenate, axis=-1 if last else 0)
    low, high = (join([bound] * count) for bound in (single.low, single.high))
    return TransformObservation(stacked, join, Box(low, high, dtype=single.dtype.type))


def _can_be_shared(make: Callable[[], gymnasium.Env[Any, Any]]) -> bool:
    """Whether Gymnasium has memory that processes share for an environment's observations; for a Graph or a class of space it has none."""
    with closing(make()) as env:
        try:
            create_shared_memory(env.observation_space)
        except (CustomSpaceError, TypeError):
            return False
    return True


def _nearest(name: str) -> str:
    """Return the nearest ids, or where an id or namespace that is not registered may come from."""
    namespace, slash, _ = name.rpartition("/")
    if slash and not any(registered.startswith(f"{namespace}/") for registered in gymnasium.registry):
        fix = f"; install the package with '{namespace}' and write 'gymnasium/package:{name}'"
    else:
        fix = suggest(name, gymnasium.registry, "gymnasium/")
    return suggest_registered(name, (), fix)
