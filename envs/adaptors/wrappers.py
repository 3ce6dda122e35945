"""State of the wrappers around an environment, in checkpoints and in the environments of evaluations.

A wrapper with `state_dict` and `load_state_dict` of its own is saved by these; of any other each attribute is, as far as it is
plain data. An attribute that is none makes the environment one that cannot be saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from gymnasium import Space, wrappers
from gymnasium.vector import AsyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from gymnasium.wrappers.utils import RunningMeanStd
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError
from antiphon.envs.adaptors.final_observation import FinalObservation
from antiphon.envs.adaptors.plain_state import MADE_EARLY, Capture, NotPlain, Restore, equal_trees

_WATCHING: tuple[type, ...] = (
    FinalObservation,
    wrappers.PassiveEnvChecker,
    *(wrappers.HumanRendering, wrappers.RecordVideo, wrappers.RenderCollection),
    *(vector_wrappers.HumanRendering, vector_wrappers.RecordVideo),
)
"""Wrappers that change nothing of an environment."""
_OF_REWARDS = tuple(
    getattr(module, name)
    for module in (wrappers, vector_wrappers)
    for name in ("NormalizeReward", "RecordEpisodeStatistics")
)
"""Wrappers whose state changes no observation."""
_OF_EPISODES = (wrappers.OrderEnforcing, wrappers.TimeLimit, wrappers.Autoreset)
"""Wrappers whose state ends with the episode."""
_ENVS = ("env", "aec_env")
"""Attributes that hold the wrapped environment."""
_SETTINGS = {*_ENVS, "_metadata", "metadata", "_saved_kwargs", "_cached_spec", "spec"}
_RUNNING = "update_running_mean"
"""Switch of the statistics of Gymnasium's wrappers."""
_STATISTICS = ("obs_rms", "return_rms")
"""Attributes of Gymnasium's wrappers with running statistics."""
_OF_BASE = ("_np_random", "action_space", "observation_space")
"""Attributes of an environment whose random numbers its wrappers use too."""
TRIAL = 20
"""Steps after which a wrapper's state has changed if it changes at all."""


class Layers:
    """The wrappers of one environment, of Gymnasium, of its vector environments or of PettingZoo.

    Args:
        env: The environment, wrapped or not.
    """

    def __init__(self, env: Any) -> None:
        self._base = getattr(env, "unwrapped", env)
        chain = list(_chain(env))
        self.wrappers = [
            layer for layer in chain if layer is not self._base and not isinstance(layer, _WATCHING)
        ]
        self._references = [*self.wrappers, self._base]
        self._others = [
            *(layer for layer in chain if isinstance(layer, _WATCHING)),
            *_sub_environments(self._base),
        ]
        self._relied: dict[str, str] | None = None

    @property
    def names(self) -> list[str]:
        """The wrappers' classes, the outermost first."""
        return [type(wrapper).__name__ for wrapper in self.wrappers]

    @property
    def lasting(self) -> list[Any]:
        """The wrappers whose state may outlive an episode."""
        return [wrapper for wrapper in self.wrappers if not isinstance(wrapper, _OF_EPISODES)]

    @property
    def observing(self) -> list[Any]:
        """The wrappers whose state may outlive an episode and change observations."""
        return [wrapper for wrapper in self.lasting if not isinstance(wrapper, _OF_REWARDS)]

    @property
    def unsaved(self) -> str:
        """Why the first wrapper that cannot be saved cannot be; empty where all can."""
        try:
            self._captured()
        except NotPlain as reason:
            return str(reason)
        return ""

    def remember(self) -> None:
        """Keep what there is after the first reset: the state of what is made later cannot be restored."""
        if self._relied is None:
            try:
                self._relied = self._captured()[1]
            except NotPlain:
                self._relied = {}

    def state_dict(self) -> list[Any]:
        """Return name and state of each wrapper, and of the environment's random numbers.

        Raises:
            RunError: A wrapper cannot be saved; the line names it.
        """
        try:
            captured, relied = self._captured()
        except NotPlain as reason:
            raise RunError(f"env: {reason}") from None
        for path, make in relied.items():
            if self._relied is not None and self._relied.get(path) != make:
                name = path.partition(".")[0]
                problem = f"holds a {make.rpartition('.')[2]} ({path}) that was made during the run"
                raise RunError(f"env: its wrapper {name} {problem}, and cannot be saved; {MADE_EARLY}")
        states = [
            {"name": type(wrapper).__name__, "own": deepcopy(wrapper.state_dict())}
            if _own_state(wrapper)
            else {"name": type(wrapper).__name__, "state": trees}
            for wrapper, trees in zip(self.wrappers, captured[1:], strict=True)
        ]
        return [{"name": "", "state": captured[0]}, *states]

    def _captured(self) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """Return the trees of the environment's random numbers and of each wrapper, and what they rely on."""
        capture = Capture(self._references, self._others)
        captured = [
            {name: capture.tree(generator, name) for name, generator in _random_numbers(self._base).items()}
        ]
        for wrapper in self.wrappers:
            trees: dict[str, Any] = {}
            for name, attribute in _attributes(wrapper).items():
                try:
                    trees[name] = capture.tree(attribute, f"{type(wrapper).__name__}.{name}")
                except NotPlain as reason:
                    fix = "give the wrapper state_dict and load_state_dict"
                    raise NotPlain(f"its wrapper {type(wrapper).__name__} holds {reason}; {fix}") from None
            captured.append(trees)
        return captured, capture.relied

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Load a state of the same wrappers.

        Raises:
            RunError: It is of other wrappers.
        """
        self._check_names([saved["name"] for saved in state[1:]])
        restore = Restore(self._references)
        held = _random_numbers(self._base)
        for name, tree in state[0]["state"].items():
            value = restore.value(tree, held.get(name), name)
            if value is not held.get(name):
                setattr(self._base, name, value)
        for wrapper, saved in zip(self.wrappers, state[1:], strict=True):
            if "own" in saved:
                wrapper.load_state_dict(deepcopy(saved["own"]))
                continue
            self._set(wrapper, saved["state"], restore)
            for name in _attributes(wrapper).keys() - saved["state"].keys():
                del vars(wrapper)[name]

    def carried(self) -> list[Any]:
        """Return name and state of each wrapper, the outermost first, without the attributes that are no data."""
        capture = Capture([*self._references, *self._generators()], self._others)
        return [self._carried(wrapper, capture) for wrapper in self.wrappers]

    def _generators(self) -> list[Any]:
        """Return the environment's generator and spaces; None for what it lacks."""
        held = _random_numbers(self._base)
        return [held.get(name) for name in _OF_BASE]

    def _carried(self, wrapper: Any, capture: Capture) -> dict[str, Any]:
        name = type(wrapper).__name__
        if isinstance(wrapper, _OF_EPISODES):
            return {"name": name, "state": {}}
        if _own_state(wrapper):
            return {"name": name, "own": deepcopy(wrapper.state_dict())}
        trees = {}
        for attribute, value in _attributes(wrapper).items():
            if isinstance(value, Space):  # each environment has its own samples
                continue
            try:
                trees[attribute] = capture.attribute(value, f"{name}.{attribute}")
            except NotPlain:  # such as a file: each environment has its own
                continue
        return {"name": name, "state": trees}

    def carry(self, state: Sequence[Mapping[str, Any]], sizes: tuple[int, int] | None = None) -> None:
        """Load what `carried` returned, and let running statistics stand still from here on.

        Args:
            state: Of the same wrappers.
            sizes: Of vector wrappers of another number of environments: theirs, and these wrappers'. State of each
                environment is left out.

        Raises:
            RunError: It is of other wrappers.
        """
        self._check_names([saved["name"] for saved in state])
        restore = Restore([*self._references, *self._generators()], apart=True)
        for wrapper, saved in zip(self.wrappers, state, strict=True):
            if "own" in saved:
                wrapper.load_state_dict(deepcopy(saved["own"]))
            else:
                self._set(wrapper, saved["state"], restore, sizes)
            if hasattr(type(wrapper), _RUNNING) or _RUNNING in vars(wrapper):
                setattr(wrapper, _RUNNING, False)

    def _check_names(self, saved: list[str]) -> None:
        if self.names != saved:
            listed = [", ".join(names) or "none" for names in (saved, self.names)]
            raise RunError(
                f"env: the state is of the wrappers {listed[0]}, and these are {listed[1]}; wrap it as in the run"
            )

    @staticmethod
    def _set(
        wrapper: Any, trees: Mapping[str, Any], restore: Restore, sizes: tuple[int, int] | None = None
    ) -> None:
        held, values = vars(wrapper), {}
        for name, tree in trees.items():
            path = f"{type(wrapper).__name__}.{name}"
            try:
                value = restore.value(tree, held.get(name), path)
                if sizes is None or _of_all(value, held.get(name), *sizes):
                    values[name] = value
            except NotPlain as reason:
                raise RunError(f"env: its wrapper {type(wrapper).__name__} holds {reason}") from None
        held.update(values)


class LayersOfBatch:
    """The wrappers around a vector environment and around each of its sub-environments.

    Args:
        outer: The vector environment; None: copies are stepped in a loop.
        rows: The sub-environments, as far as they are in this process.
    """

    def __init__(self, outer: Any, rows: Sequence[Any]) -> None:
        self._outer = Layers(outer)
        self._rows = [Layers(row) for row in rows]
        base = getattr(outer, "unwrapped", outer)
        self._processes = base if isinstance(base, AsyncVectorEnv) else None

    @property
    def lasting(self) -> bool:
        """Whether a wrapper's state may outlive an episode; those in other processes may."""
        return self._processes is not None or any(layers.lasting for layers in (self._outer, *self._rows))

    @property
    def observing(self) -> bool:
        """Whether such a state may change observations."""
        return self._processes is not None or any(layers.observing for layers in (self._outer, *self._rows))

    @property
    def unsaved(self) -> str:
        """Why the first wrapper that cannot be saved cannot be; empty where all can."""
        return self._outer.unsaved or (self._rows[0].unsaved if self._rows else "")

    def remember(self) -> None:
        """Keep what there is after the first reset: the state of what is made later cannot be restored."""
        for layers in (self._outer, *self._rows):
            layers.remember()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all; RunError for a wrapper that cannot be saved."""
        return {"outer": self._outer.state_dict(), "rows": [row.state_dict() for row in self._rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the state of all; RunError where the wrappers are others."""
        self._outer.load_state_dict(state["outer"])
        for row, saved in zip(self._rows, state["rows"], strict=True):
            row.load_state_dict(saved)

    def carried(self) -> dict[str, Any]:
        """Return the state of the wrappers alone, as far as it can be read."""
        carried: dict[str, Any] = {
            "outer": self._outer.carried(),
            "rows": [row.carried() for row in self._rows],
        }
        if self._processes is not None:
            carried["processes"] = {name: _moments(self._processes, name) for name in _STATISTICS}
        return carried

    def carry(self, state: Mapping[str, Any], sizes: tuple[int, int]) -> None:
        """Load what `carried` returned, and let running statistics stand still from here on.

        Args:
            state: Of a batch of any size; row i is loaded from row i modulo its number of rows.
            sizes: Number of its environments, and of these.

        Raises:
            RunError: It is of other wrappers.
            ScenarioError: A wrapper whose state is carried is in another process.
        """
        self._outer.carry(state["outer"], None if sizes[0] == sizes[1] else sizes)
        for number, row in enumerate(self._rows):
            row.carry(state["rows"][number % len(state["rows"])])
        if self._processes is None:
            return
        moments = {name: values for name, values in state["processes"].items() if values}
        if name := _unreadable(self._processes, list(moments)):
            raise ScenarioError(
                f"env: the state of the wrapper {name} is in other processes, and an evaluation lacks it; make the "
                "environment with `vectorization_mode: sync`"
            )
        for name, values in moments.items():
            still = [Still(*values[row % len(values)]) for row in range(self._processes.num_envs)]
            self._processes.set_attr(name, still)

    def surviving(self, fresh: LayersOfBatch, carried: LayersOfBatch) -> list[str]:
        """Return the wrappers whose state outlives a reset and changes observations, such as running statistics.

        Args:
            fresh: The layers of an equal environment after a reset with a seed.
            carried: The layers of an environment that took over this one's state before the same reset.
        """
        if self._processes is not None and _moments(self._processes, _STATISTICS[0]):
            return ["NormalizeObservation"]
        pairs = zip((fresh._outer, *fresh._rows), (carried._outer, *carried._rows), strict=True)
        names = [type(wrapper).__name__ for first, second in pairs for wrapper in _different(first, second)]
        return list(dict.fromkeys(names))

    @property
    def normalising(self) -> list[str]:
        """The wrappers that have Gymnasium's statistics of observations."""
        all_wrappers = [wrapper for layers in (self._outer, *self._rows) for wrapper in layers.wrappers]
        return [type(wrapper).__name__ for wrapper in all_wrappers if _STATISTICS[0] in vars(wrapper)]


class Still(RunningMeanStd):
    """Running statistics that stand still, for sub-environments in other processes."""

    def __init__(self, mean: Tensor, var: Tensor, count: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mean, self.var, self.count = mean.numpy(), var.numpy(), count

    def update(self, x: Any) -> None:
        """Do nothing."""


def _moments(env: AsyncVectorEnv, name: str) -> list[Any]:
    """Return mean, variance and count of statistics by sub-environment; nothing where there are none."""
    if not all(env.call("has_wrapper_attr", name)):
        return []
    return [
        [*map(_as_tensor, (statistics.mean, statistics.var)), float(statistics.count)]
        for statistics in env.get_attr(name)
    ]


def _as_tensor(value: Any) -> Tensor:
    return torch.as_tensor(np.array(value, np.float64))


def _unreadable(env: AsyncVectorEnv, names: Sequence[str]) -> str:
    """Return a wrapper of a sub-environment whose state outlives an episode and is none of the statistics `names`, or nothing."""
    with closing(env.env_fns[0]()) as played:
        lasting = [
            wrapper
            for wrapper in Layers(played).observing
            if not any(name in vars(wrapper) for name in names)
        ]
        if not lasting:
            return ""
        with closing(env.env_fns[0]()) as fresh:
            for trial_env in (played, fresh):
                trial_env.reset(seed=0)
            for _ in range(TRIAL):
                *_, terminated, truncated, _ = played.step(played.action_space.sample())
                if terminated or truncated:
                    played.reset()
            played.reset(seed=0)
            different = [
                wrapper
                for wrapper in _different(Layers(played), Layers(fresh))
                if any(wrapper is lasting_wrapper for lasting_wrapper in lasting)
            ]
            return type(different[0]).__name__ if different else ""


def _different(first: Layers, second: Layers) -> list[Any]:
    """Return the wrappers, of the first, whose state changes observations and differs."""
    pairs = zip(first.wrappers, first.carried(), second.carried(), strict=True)
    return [wrapper for wrapper, *states in pairs if wrapper in first.observing and not equal_trees(*states)]


def _of_all(value: Any, present: Any, theirs: int, ours: int) -> bool:
    """Whether a vector wrapper's attribute is of all environments together, and not of each of `theirs` or `ours`."""
    if isinstance(value, np.ndarray | Tensor):
        if isinstance(present, np.ndarray | Tensor):
            return value.shape == present.shape
        if value.shape and value.shape[0] == theirs:
            raise NotPlain(f"an array that was made during the run; {MADE_EARLY}")
        return True
    if isinstance(value, list | tuple):
        return len(value) != theirs
    return type(value) is not int or (value, present) != (theirs, ours)


def _chain(env: Any) -> Iterator[Any]:
    while True:
        yield env
        held = vars(env) if hasattr(env, "__dict__") else {}
        inner = next((held[name] for name in _ENVS if name in held), None)
        if inner is None or env is getattr(env, "unwrapped", env):
            return
        env = inner


def _sub_environments(base: Any) -> list[Any]:
    held = vars(base).get("envs") if hasattr(base, "__dict__") else None
    return [env for row in held for env in _chain(row)] if isinstance(held, list | tuple) else []


def _random_numbers(base: Any) -> dict[str, Any]:
    """Return an environment's generator, and those of its spaces, by attribute."""
    held = vars(base) if hasattr(base, "__dict__") else {}
    return {name: held[name] for name in _OF_BASE if isinstance(held.get(name), np.random.Generator | Space)}


def _attributes(wrapper: Any) -> dict[str, Any]:
    """Return the attributes of a wrapper that are its state; none if it keeps that itself."""
    if _own_state(wrapper):
        return {}
    return {name: value for name, value in vars(wrapper).items() if name not in _SETTINGS}


def _own_state(wrapper: Any) -> bool:
    """Whether a wrapper's class, not an environment below, has `state_dict` and `load_state_dict`."""
    return all(callable(getattr(type(wrapper), name, None)) for name in ("state_dict", "load_state_dict"))
