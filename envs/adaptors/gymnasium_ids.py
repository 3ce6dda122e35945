"""Vector environments of Gymnasium's registry, by id and with the options of a scenario."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import CustomSpaceError
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import create_shared_memory

from antiphon.base.errors import ScenarioError, warn_of_scenario
from antiphon.base.imports import import_allowed, imported_by_name
from antiphon.base.nearest_names import suggest, suggest_registered
from antiphon.envs.adaptors.checked import arguments_of, check_render_mode, making
from antiphon.envs.adaptors.final_observation import FinalObservation
from antiphon.envs.adaptors.frame_stack import FrameStack, check_stack
from antiphon.envs.env_keys import EnvOptions

_OWN = {"id", "num_envs", "vector_kwargs", "wrappers"}
"""Arguments of `make_vec` that a scenario file cannot set."""
_LIMIT = "max_episode_steps"
_AUTORESET = {mode.name.lower(): mode for mode in AutoresetMode}

_INSTEAD = {
    "workers": "write vectorization_mode: async, which has a process for each environment",
    "max_steps": "write max_episode_steps and vectorization_mode: sync",
}
"""Keys of other environments, and what Gymnasium's have instead."""


class _VectorOptions(EnvOptions, extra="allow"):
    """How a vector environment is made; all other keys are arguments of the environment."""

    vectorization_mode: Literal["sync", "async", "vector_entry_point"] | None = None
    autoreset: Literal["same_step", "next_step", "disabled"] | None = None
    stack: Any = None  # checked by `FrameStack`


def open_vector(name: str, batch: int, options: Mapping[str, Any]) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment of an id.

    Args:
        name: The id, optionally after the module that registers it and a colon, if it may be imported (`allow_import`).
        options: `vectorization_mode` (`sync`, `async` or `vector_entry_point`; left out: the id's own vector environment
            if it has one and `autoreset` is left out, else `sync`), `autoreset` (`same_step`, `next_step` or `disabled`;
            left out: `same_step`, or the mode of the id's own vector environment), `stack` (see `FrameStack`), and arguments
            of the environment.

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
    mode, autoreset, arguments = parsed.vectorization_mode, parsed.autoreset, dict(parsed.model_extra or {})
    if arguments.get(_LIMIT, 0) is None:  # the registration's, to `gymnasium.make`; vector classes compare it
        del arguments[_LIMIT]
    for key in arguments.keys() & _OWN:
        meaning = "use training.batch" if key == "num_envs" else "a scenario file has no Python objects"
        raise ScenarioError(f"env.{key}: cannot be set, {meaning}; leave it out")
    has_own = gymnasium.spec(name).vector_entry_point is not None
    chosen = mode is None and has_own and autoreset is None
    if mode is None:
        mode = "vector_entry_point" if chosen else "sync"
    if mode == "vector_entry_point" and arguments.get(_LIMIT) == -1:
        fix = "write vectorization_mode: sync"
        raise ScenarioError(f"env.{_LIMIT}: the vector environment of '{name}' has a limit; {fix}")
    if parsed.stack is not None:
        check_stack(parsed.stack)
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
            resets: dict[str, Any] = {"autoreset_mode": _AUTORESET[autoreset or "same_step"]}
            if mode == "async":
                env = AsyncVectorEnv([row] * batch, shared_memory=_can_be_shared(row), **resets)
            else:
                env = SyncVectorEnv([row] * batch, **resets)
            env.spec = gymnasium.spec(name)  # by which errors name it
    try:
        check_render_mode(name, env, arguments)
        mode_of_env = env.metadata.get("autoreset_mode")
        if autoreset is not None and mode_of_env is not _AUTORESET[autoreset]:
            has = mode_of_env.name.lower() if isinstance(mode_of_env, AutoresetMode) else mode_of_env
            difference = f"{autoreset}, but the vector environment of '{name}' has {has}"
            raise ScenarioError(
                f"env.autoreset: {difference}; leave autoreset out, or use vectorization_mode: sync"
            )
    except ScenarioError:
        env.close()
        raise
    if has_own and not chosen and parsed.vectorization_mode is None:
        _warn_of_another_task(name, env, arguments)
    return env


def _arguments_of(name: str) -> dict[str, bool]:
    """Return the arguments of an id's class or factory, and whether each is a flag; none where it cannot be imported or has no signature."""
    spec = gymnasium.spec(name)
    entry, registered = spec.entry_point, {key: isinstance(value, bool) for key, value in spec.kwargs.items()}
    with suppress(Exception):  # making it reports why
        return registered | arguments_of(load_env_creator(entry) if isinstance(entry, str) else entry)
    return {}


def _make(
    name: str, arguments: Mapping[str, Any], stack: int | Mapping[str, int] | None, *, alone: bool
) -> gymnasium.Env[Any, Any]:
    """Make one environment of an id; `make_vec` drops arguments of the registration that `make` has too (`max_episode_steps`)."""
    env: gymnasium.Env[Any, Any] = gymnasium.make(name, **arguments)
    return FinalObservation(env if stack is None else FrameStack(env, stack), alone=alone)


def _can_be_shared(make: Callable[[], gymnasium.Env[Any, Any]]) -> bool:
    """Whether Gymnasium has memory that processes share for an environment's observations; for a Graph or a class of space it has none."""
    with closing(make()) as env:
        try:
            create_shared_memory(env.observation_space)
        except (CustomSpaceError, TypeError):
            return False
    return True


def _warn_of_another_task(name: str, env: VectorEnv[Any, Any, Any], arguments: Mapping[str, Any]) -> None:
    """Warn where the id's own vector environment, which `autoreset` replaces, has other observations or actions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry_point_env = gymnasium.make_vec(
                name, 1, vectorization_mode="vector_entry_point", **arguments
            )
    except Exception:  # noqa: BLE001  (it is not asked for)
        return
    spaces = [
        (vector.single_observation_space, vector.single_action_space) for vector in (env, entry_point_env)
    ]
    entry_point_env.close()
    if spaces[0] != spaces[1]:
        line = f"env.autoreset: replaces the vector environment of '{name}', whose observations, actions or rewards differ"
        warn_of_scenario(f"{line}; write vectorization_mode: sync, or leave autoreset out")


def _nearest(name: str) -> str:
    """Return the nearest ids, or where an id or namespace that is not registered may come from."""
    namespace, slash, _ = name.rpartition("/")
    if slash and not any(registered.startswith(f"{namespace}/") for registered in gymnasium.registry):
        fix = f"; install the package with '{namespace}' and write 'gymnasium/package:{name}'"
    else:
        fix = suggest(name, gymnasium.registry, "gymnasium/")
    return suggest_registered(name, (), fix)
