"""Observations of Gymnasium's and PettingZoo's environments as the newest of several steps, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.envs.adaptors.spaces import Path, leaves, mapped, part_at, signal_name
from antiphon.envs.signal import channel_axis


def check_stack(counts: object) -> None:
    """Check how many observations are stacked: by the name of the signal, or of the only one.

    Raises:
        ScenarioError: They are less than two.
    """
    for name, count in counts.items() if isinstance(counts, Mapping) else [("", counts)]:
        if type(count) is not int or count < 2:
            words, fix = f"{name!r} has " if name else "", "leave it out for the newest alone"
            raise ScenarioError(f"env.stack: {words}{count!r}; must be a whole number from 2; {fix}")


class Frames:
    """The newest observations of one observer side by side, the oldest first; before there are so many, the first is repeated.

    Arrays are joined along the channels of images with three axes, along their only axis of vectors, and else along a new first
    axis.

    Args:
        space: Of one observation.
        counts: How many, by the name of the signal, or of the only one.
        prefix: Of the names of the signals.

    Raises:
        ScenarioError: A name that is no signal, a number less than 2, or a part without numbers.
    """

    def __init__(self, space: spaces.Space[Any], counts: int | Mapping[str, int], prefix: str = "") -> None:
        check_stack(counts)
        paths = {prefix + signal_name(path): path for path in leaves(space)}
        if not isinstance(counts, Mapping):
            if len(paths) > 1:
                fix = f"name those to stack, such as stack: {{{next(iter(paths))}: {counts}}}"
                raise ScenarioError(f"env.stack: {counts!r}, but the observation has parts; {fix}")
            counts = dict.fromkeys(paths, counts)
        self._newest: dict[Path, deque[Any]] = {}
        for name, count in counts.items():
            if name not in paths:
                raise ScenarioError(f"env.stack: no signal '{name}'{suggest(name, paths)}")
            self._newest[paths[name]] = deque(maxlen=count)
        self._single = space
        self.space = _space(space, {path: frames.maxlen or 0 for path, frames in self._newest.items()})

    def clear(self) -> None:
        """Forget what was seen: an episode begins."""
        for frames in self._newest.values():
            frames.clear()

    def seen(self, shown: Any) -> Any:
        """Return what is seen after an observation, which is copied."""
        for path, frames in self._newest.items():
            frames.extend([np.array(part_at(shown, path))] * (1 if frames else frames.maxlen or 0))

        def joined(path: Path, leaf: spaces.Space[Any]) -> Any:
            frames = self._newest.get(path)
            return part_at(shown, path) if frames is None else _join_of(leaf)(list(frames))

        return mapped(self._single, joined)


class FrameStack(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment of Gymnasium of which the newest observations are seen, see `Frames`."""

    def __init__(self, env: gymnasium.Env[Any, Any], counts: int | Mapping[str, int]) -> None:
        super().__init__(env)
        self.frames = Frames(env.observation_space, counts)
        self.observation_space = self.frames.space

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        shown, info = self.env.reset(**settings)
        self.frames.clear()
        return self.frames.seen(shown), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        shown, *rest = self.env.step(action)
        return self.frames.seen(shown), *rest


class AgentsFrameStack:
    """An environment of PettingZoo, in its parallel interface, each agent of which sees its newest observations, see `Frames`.

    An agent that comes, or comes back, begins anew.

    Args:
        counts: How many, by the name of the signal, or of every agent.
    """

    def __init__(self, env: Any, counts: int | Mapping[str, int]) -> None:
        self.env = env
        counts_of: dict[str, int | dict[str, int]] = {agent: {} for agent in env.possible_agents}
        if not isinstance(counts, Mapping):
            counts_of = dict.fromkeys(counts_of, counts)
        for name, count in counts.items() if isinstance(counts, Mapping) else ():
            agent = next((agent for agent in counts_of if name.startswith(f"{agent}.")), None)
            if agent is None:
                signals = [
                    f"{agent}.{signal_name(path)}"
                    for agent in counts_of
                    for path in leaves(env.observation_space(agent))
                ]
                raise ScenarioError(f"env.stack: no signal '{name}'{suggest(name, signals)}")
            counts_of[agent] = {**counts_of[agent], name: count}  # type: ignore[dict-item]
        self.frames = {
            agent: Frames(env.observation_space(agent), number, f"{agent}.")
            for agent, number in counts_of.items()
        }

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # of a copy that has nothing yet
            raise AttributeError(name)
        return getattr(self.env, name)

    @property
    def unwrapped(self) -> Any:
        """The environment without its wrappers."""
        return getattr(self.env, "unwrapped", self.env)

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.frames[agent].space

    def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        for frames in self.frames.values():
            frames.clear()
        shown, info = self.env.reset(**how)
        return self._seen(shown), info

    def step(self, actions: Mapping[str, Any]) -> tuple[Any, ...]:
        before = {*self.env.agents}
        shown, *rest = self.env.step(actions)
        living = {*self.env.agents}
        over = {agent for ends in rest[1:3] for agent, ended in ends.items() if ended}
        # all of those that were there: the episode is over, and these are their last observations
        again = living & over if not (before <= over and living <= before) else set()
        seen = self._seen(shown, again)
        for agent in shown.keys() - living:
            self.frames[agent].clear()
        return seen, *rest

    def _seen(self, shown: Mapping[str, Any], new: AbstractSet[str] = frozenset()) -> dict[str, Any]:
        """Return what the agents see; those that are not shown, and `new` ones, which live again at once, begin anew."""
        for agent in (self.frames.keys() - shown.keys()) | new:
            self.frames[agent].clear()
        return {agent: self.frames[agent].seen(observation) for agent, observation in shown.items()}


def _join_of(leaf: spaces.Space[Any]) -> Callable[[list[Any]], Any]:
    """Return the function that joins the values of a part of several steps."""
    shape = leaf.shape or ()
    if len(shape) == 3:
        return partial(np.concatenate, axis=-1 if channel_axis(shape) == "last" else 0)
    return np.concatenate if len(shape) == 1 else np.stack


def _space(space: spaces.Space[Any], counts: Mapping[Path, int], path: Path = ()) -> spaces.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict(
            {key: _space(subspace, counts, (*path, key)) for key, subspace in space.spaces.items()}
        )
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple(
            [_space(subspace, counts, (*path, index)) for index, subspace in enumerate(space.spaces)]
        )
    if path not in counts:
        return space
    count, join = counts[path], _join_of(space)
    match space:
        case spaces.Box():
            low, high = (join([bound] * count) for bound in (space.low, space.high))
            return spaces.Box(low, high, dtype=space.dtype.type)
        case spaces.Discrete():
            return spaces.MultiDiscrete(np.full(count, space.n), start=np.full(count, space.start))
        case spaces.MultiDiscrete():
            nvec, start = (join([values] * count) for values in (space.nvec, space.start))
            return spaces.MultiDiscrete(nvec, start=start)
        case spaces.MultiBinary():
            return spaces.MultiBinary(join([np.zeros(space.shape)] * count).shape)
    raise ScenarioError(
        f"env.stack: {signal_name(path)!r} is a {type(space).__name__}, which has no numbers; leave it out"
    )
