"""Gymnasium spaces as named signals and parts of an action, with conversion of their values to tensors and back.

| space | signal |
| --- | --- |
| Box of uint8 | (value - low) / (high - low): 0 to 1 |
| Box of other types | its values, as floats of the run's dtype, also outside its bounds |
| Discrete, MultiDiscrete | classes from 0: value - start |
| MultiBinary | 0.0 and 1.0 |
| Dict, Tuple | a signal for each part; PettingZoo's `state` alike, training-only |

Text, Graph, Sequence and OneOf are no signals, nor are parts with the name of an outcome or of a mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from antiphon.base.errors import ScenarioError, require
from antiphon.envs.base import chosen
from antiphon.envs.signal import OUTCOMES, Signal, channel_axis

Path = tuple[str | int, ...]
"""Keys and indices that lead from a space to a part of it."""


def leaves(space: Space[Any]) -> dict[Path, Space[Any]]:
    """Return the parts of a space that are neither Dict nor Tuple, by path; `()` is the space itself."""
    parts: dict[Path, Space[Any]] = {}
    mapped(space, parts.__setitem__)
    return parts


def mapped(space: Space[Any], value: Callable[[Path, Space[Any]], Any], path: Path = ()) -> Any:
    """Return a value of a space, assembled from its parts that are neither Dict nor Tuple."""
    if isinstance(space, spaces.Dict):
        return {key: mapped(subspace, value, (*path, key)) for key, subspace in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(mapped(subspace, value, (*path, index)) for index, subspace in enumerate(space.spaces))
    return value(path, space)


def part_at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def random_state(space: Space[Any]) -> list[Any]:
    return [leaf.np_random.bit_generator.state for leaf in leaves(space).values()]


def load_random_state(space: Space[Any], state: list[Any]) -> None:
    for leaf, leaf_state in zip(leaves(space).values(), state, strict=True):
        leaf.np_random.bit_generator.state = leaf_state


def _signal_of(name: str, space: Space[Any], *, training_only: bool) -> Signal | None:
    """Return the signal of an observation's part; None: the space has no numbers, or the name another meaning."""
    if name.startswith("_") or name in OUTCOMES:
        return None
    kind: dict[str, Any] = {"training_only": training_only}
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete) and len(space.shape) == 3:
        kind["channels"] = channel_axis(space.shape)
    match space:
        case spaces.MultiBinary() | spaces.Box(dtype=np.uint8):
            return Signal(shape=space.shape, low=0.0, high=1.0, **kind)
        case spaces.Box():
            if not space.low.size:  # an environment that shows nothing
                return Signal(shape=space.shape, **kind)
            low, high = float(space.low.astype(float).min()), float(space.high.astype(float).max())
            return Signal(shape=space.shape, low=low, high=high, **kind)
        case spaces.Discrete():
            return Signal(classes=int(space.n), **kind)
        case spaces.MultiDiscrete():
            return Signal(shape=space.shape, classes=int(space.nvec.max()), **kind)
    return None


@dataclass(frozen=True)
class Conversion:
    """The affine map from a space's values to its signal's, and what these values are in numpy."""

    dtype: np.dtype[Any]
    """Type of the native values."""
    start: Tensor | None = None
    """What is subtracted: the first choice, of each element, or the lower bound of bytes; None: nothing."""
    scale: float = 1.0
    """What is divided by: the range of bytes. 1: they keep their values."""

    def __call__(self, value: Tensor) -> Tensor:
        value = value if self.start is None else value - self.start.to(value)
        return value if self.scale == 1 else value / self.scale

    @staticmethod
    def of(space: Space[Any]) -> Conversion:
        dtype = np.dtype(space.dtype)
        if isinstance(space, spaces.Box) and dtype == np.uint8:
            low, high = int(space.low.min(initial=255)), int(space.high.max(initial=0))
            start = torch.tensor(low) if 0 < low <= high else None
            return Conversion(dtype, start, scale=float(max(high - low, 1)))
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and np.any(space.start):
            return Conversion(dtype, torch.as_tensor(np.asarray(space.start, np.int64)))
        return Conversion(dtype)


class Observations:
    """The signals of an observation space, and its values as tensors.

    A space that is neither Dict nor Tuple is the signal `observation`; a Dict has a signal per key, a Tuple one per index
    (`observation.0`), and names of nested spaces are joined by dots. A part that cannot be a signal is left out.

    Args:
        space: Observation space of one sub-environment.
        prefix: Prefix of each name, such as an agent's name and a dot.
        training_only: Whether agents cannot observe them.

    Attributes:
        conversions: From the native values of each signal.
    """

    def __init__(self, space: Space[Any], prefix: str = "", *, training_only: bool = False) -> None:
        self._paths: dict[str, Path] = {}
        self.conversions: dict[str, Conversion] = {}
        self.signals: dict[str, Signal] = {}
        for path, leaf in leaves(space).items():
            keys = path if path and isinstance(path[0], str) else ("observation", *path)
            name = prefix + ".".join(map(str, keys))
            twice = f"two observations have the name '{name}'; rename one"
            require(name not in self._paths, "env", twice, ScenarioError)
            self._paths[name] = path
            if (signal := _signal_of(name, leaf, training_only=training_only)) is not None:
                self.signals[name], self.conversions[name] = signal, Conversion.of(leaf)

    def part(self, name: str, observation: Any) -> Any:
        """Return a signal's part of a native observation, of one environment or a batch."""
        return part_at(observation, self._paths[name])

    def value(self, name: str, raw: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return a copy of a signal's part as its value on a device; `dtype` is the type of floats."""
        native, kind = tensor_of(raw, device), dtype if self.signals[name].classes is None else torch.int64
        return self.conversions[name](native if native.dtype is kind else native.to(kind))


def tensor_of(values: Any, device: torch.device) -> Tensor:
    """Return a copy of an environment's value, as a tensor."""
    if isinstance(values, Tensor):
        return values.to(device, copy=True)
    return torch.from_numpy(np.array(values)).to(device)


class ActionSpace:
    """The action space of agents, and its translation to an environment's own actions.

    Choices start at 0, even if the environment's start elsewhere; a MultiBinary becomes a MultiDiscrete of twos. A Dict
    or Tuple has a part per key or index, and names of nested spaces are joined by dots: the keys of the Dict `space`.

    Args:
        native: The environment's own action space, of one sub-environment.

    Attributes:
        space: The agents' action space: Discrete, MultiDiscrete, Box, or a Dict of these. Other spaces are unchanged: no
            agent can act in them, and actions are random.
    """

    def __init__(self, native: Space[Any]) -> None:
        self._leaves = {".".join(map(str, path)): leaf for path, leaf in leaves(native).items()}
        self.native = native
        parts = {name: _choices(leaf) for name, leaf in self._leaves.items()}
        nested = isinstance(native, spaces.Dict | spaces.Tuple)
        self.space: Space[Any] = spaces.Dict(parts) if nested else parts[""]

    def translated(self, actions: Any, sample: Callable[[], Any], arrays: bool) -> Any:
        """Return a batch of actions in the environment's own format.

        Args:
            actions: Actions in `space`, as tensors or arrays [batch, …]. For a float tensor [batch, outputs] the Discrete
                action is the index of the largest; for a Box it is reshaped and clamped. Parts of a Dict may be missing.
            sample: Returns random actions in the environment's own format, for missing parts.
            arrays: Whether the environment takes numpy arrays.
        """
        if not isinstance(self.native, spaces.Dict | spaces.Tuple):
            return _translated(actions, self.native, arrays)
        if not isinstance(actions, Mapping) or not actions.keys() <= self._leaves.keys():
            described = sorted(actions) if isinstance(actions, Mapping) else type(actions).__name__
            raise ScenarioError(f"env: actions are {described}; pass a mapping of {sorted(self._leaves)}")
        sampled = sample() if len(actions) < len(self._leaves) else None

        def chosen_or_random(path: Path, leaf: Space[Any]) -> Any:
            name = ".".join(map(str, path))
            return _translated(actions[name], leaf, arrays) if name in actions else part_at(sampled, path)

        return mapped(self.native, chosen_or_random)


def _choices(space: Space[Any]) -> Space[Any]:
    match space:
        case spaces.Discrete() if space.start != 0:
            return spaces.Discrete(int(space.n))
        case spaces.MultiDiscrete() if space.start.any() or space.nvec.ndim != 1:
            return spaces.MultiDiscrete(space.nvec.reshape(-1))
        case spaces.MultiBinary():
            return spaces.MultiDiscrete(np.full(math.prod(space.shape), 2))
    return space


def _translated(actions: Any, space: Space[Any], arrays: bool) -> Any:
    if isinstance(actions, np.ndarray) and not isinstance(space, spaces.Box):
        actions = torch.from_numpy(actions)
    if isinstance(actions, Tensor):
        floats = actions.is_floating_point()
        match space:
            case spaces.Discrete():
                actions = chosen(actions, int(space.n)) if floats else actions
                actions = actions + int(space.start) if space.start else actions
            case spaces.MultiDiscrete():
                start = torch.as_tensor(space.start).to(actions.device)
                actions = actions.long().reshape(-1, *space.shape) + start
            case spaces.MultiBinary():
                actions = actions.to(torch.int8).reshape(-1, *space.shape)
            case spaces.Box() if floats:
                actions = _nearest(actions.reshape(-1, *space.shape), space)
    if not arrays or not isinstance(actions, Tensor):
        return actions
    return actions.numpy(force=True).astype(space.dtype, copy=False)


def _nearest(values: Tensor, space: spaces.Box) -> Tensor:
    """Return the elements of a box that are nearest to some values, [batch, …]: of its own type, or whole numbers as float64."""
    floats = space.dtype.kind == "f"
    low, high = (
        torch.from_numpy(bound if floats else bound.astype(np.float64)).to(values.device)
        for bound in (space.low, space.high)
    )
    return (values.to(low.dtype) if floats else values.double().round()).clamp(low, high)
