"""Observations of Gymnasium's environments as the newest of several steps, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.envs.adaptors.spaces import Path, leaves, mapped, part_at, signal_name
from antiphon.envs.signal import channel_axis


class FrameStack(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The newest observations side by side, the oldest first; before there are so many, the first one is repeated.

    Arrays are joined along the channels of images with three axes, along their only axis of vectors, and else along a new first
    axis.

    Args:
        env: The environment.
        counts: How many, by the name of the signal.

    Raises:
        ScenarioError: A name that is no signal, a number less than 2, or a part without numbers.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], counts: int | Mapping[str, int]) -> None:
        super().__init__(env)
        paths = {signal_name(path): path for path in leaves(env.observation_space)}
        if not isinstance(counts, Mapping):
            if len(paths) > 1:
                fix = f"name those to stack, such as stack: {{{next(iter(paths))}: {counts}}}"
                raise ScenarioError(f"env.stack: {counts!r}, but the observation has parts; {fix}")
            counts = dict.fromkeys(paths, counts)
        self.frames: dict[str, deque[Any]] = {}
        self.counts: dict[Path, int] = {}
        for name, count in counts.items():
            if name not in paths:
                raise ScenarioError(f"env.stack: no signal '{name}'{suggest(name, paths)}")
            if type(count) is not int or count < 2:
                fix = "leave it out for the newest alone"
                raise ScenarioError(
                    f"env.stack: {name!r} has {count!r}; must be a whole number from 2; {fix}"
                )
            self.counts[paths[name]] = count
            self.frames[name] = deque(maxlen=count)
        self.observation_space = _space(env.observation_space, self.counts)

    def reset(self, **settings: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        shown, info = self.env.reset(**settings)
        for path, count in self.counts.items():
            self.frames[signal_name(path)].extend([np.array(part_at(shown, path))] * count)
        return self._stacked(shown), info

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Take a step."""
        shown, reward, terminated, truncated, info = self.env.step(action)
        for path in self.counts:
            self.frames[signal_name(path)].append(np.array(part_at(shown, path)))
        return self._stacked(shown), reward, terminated, truncated, info

    def _stacked(self, newest: Any) -> Any:
        def joined(path: Path, leaf: spaces.Space[Any]) -> Any:
            if path not in self.counts:
                return part_at(newest, path)
            return _join_of(leaf)(list(self.frames[signal_name(path)]))

        return mapped(self.env.observation_space, joined)


def _join_of(leaf: spaces.Space[Any]) -> Callable[[list[Any]], Any]:
    """Return the function that joins the values of a part of several steps."""
    shape = leaf.shape or ()
    if len(shape) == 3:
        return partial(np.concatenate, axis=-1 if channel_axis(shape) == "last" else 0)
    return np.concatenate if len(shape) == 1 else np.stack


def _space(space: spaces.Space[Any], counts: Mapping[Path, int], path: Path = ()) -> spaces.Space[Any]:
    """Return the space of observations of which some parts are stacked."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _space(part, counts, (*path, key)) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_space(part, counts, (*path, place)) for place, part in enumerate(space.spaces)])
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
            nvec, start = (join([each] * count) for each in (space.nvec, space.start))
            return spaces.MultiDiscrete(nvec, start=start)
        case spaces.MultiBinary():
            return spaces.MultiBinary(join([np.zeros(space.shape)] * count).shape)
    raise ScenarioError(
        f"env.stack: {signal_name(path)!r} is a {type(space).__name__}, which has no numbers; leave it out"
    )
