"""Gymnasium spaces as named signals and parts of an action, with conversion of their values to tensors and back.

| kept | as |
| --- | --- |
| Box of uint8 | (value - low) / (high - low), element by element: 0 to 1 |
| Box of other types | its values, as floats of the run's dtype, also outside its bounds |
| Discrete, MultiDiscrete | classes from 0: value - start |
| MultiBinary | 0.0 and 1.0 |
| Dict, Tuple | a signal for each part; PettingZoo's `state` alike, training-only |

Refused: bytes outside the bounds of their Box, choices outside their space, values that are not finite; Text, Graph, Sequence
and OneOf where they are observed; two parts of one name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, require, with_article
from antiphon.envs.base import chosen
from antiphon.envs.signal import ID, OUTCOMES, Signal, channel_axis

Path = tuple[str | int, ...]
"""Keys and indices that lead from a space to a part of it."""
_MASK = re.compile(r"(?!_)\w*(action_?masks?|(legal|valid|avail|available)_(actions?|moves?|masks?))")
"""Names that environments give to masks of legal choices."""


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


def signal_name(path: Path) -> str:
    keys = path if path and isinstance(path[0], str) else ("observation", *path)
    return ".".join(map(str, keys))


def ids_of(agents: Sequence[str]) -> dict[str, Signal]:
    """Return the signals of the agents' numbers, in their order; the value of each is its place."""
    return {f"{ID}.{agent}": Signal(classes=len(agents)) for agent in agents}


def _signal_of(name: str, space: Space[Any], *, training_only: bool = False) -> Signal:
    """Return the signal of an observation's part: bytes are scaled by their bounds to [0, 1], choices start at 0; ScenarioError
    for others.

    The axis of an image's channels is found by `channel_axis`.

    A name that begins with an underscore, or that of an outcome, is refused: it has another meaning.
    """
    if name.startswith("_"):
        raise ScenarioError(f"env: the observation '{name}' has the name of a mask; rename it")
    if name in OUTCOMES:
        raise ScenarioError(f"env: the observation '{name}' has the name of an outcome; rename it")
    kind: dict[str, Any] = {"training_only": training_only}
    if isinstance(space, spaces.Box | spaces.MultiBinary | spaces.MultiDiscrete) and len(space.shape) == 3:
        kind["channels"] = channel_axis(space.shape)
    match space:
        case spaces.Box() if space.dtype == np.uint8:
            return Signal(shape=space.shape, low=0.0, high=1.0, **kind)
        case spaces.Box():
            if not space.low.size:  # an environment that shows nothing
                return Signal(shape=space.shape, **kind)
            low, high = float(space.low.astype(float).min()), float(space.high.astype(float).max())
            return Signal(shape=space.shape, low=low, high=high, **kind)
        case spaces.MultiBinary():
            return Signal(shape=space.shape, low=0.0, high=1.0, **kind)
        case spaces.Discrete():
            return Signal(classes=int(space.n), **kind)
        case spaces.MultiDiscrete():
            return Signal(shape=space.shape, classes=int(space.nvec.max()), **kind)
    kinds = "Box, MultiBinary, Discrete, MultiDiscrete, or a Dict or Tuple of these"
    raise ScenarioError(
        f"env: the observation '{name}' is {with_article(type(space).__name__)}; flatten it to {kinds}"
    )


@dataclass(frozen=True)
class Conversion:
    """The affine map from a space's values to its signal's, and what these values are in numpy."""

    dtype: np.dtype[Any]
    """Type of the native values."""
    start: Tensor | None = None
    """What is subtracted: the first choice, or the lower bound of bytes, of each element; None: nothing."""
    scale: float | Tensor = 1.0
    """What is divided by: the range of bytes, if it differs of each element. 1: they keep their values."""
    bounds: tuple[Tensor, Tensor] | None = None
    """Smallest and largest native values, where others are refused here; None: any value is converted."""
    outside: str = ""
    """What a value outside the bounds is, and the fix."""
    of_bytes: bool = False
    """Whether bytes are scaled, so that native values cannot be floats, which may be scaled already."""

    def __call__(self, value: Tensor) -> Tensor:
        """Return the signal's values of native ones in the signal's type."""
        value = value if self.start is None else value - self.start.to(value)
        if isinstance(self.scale, Tensor):
            return value / self.scale.to(value)
        return value if self.scale == 1 else value / self.scale

    @staticmethod
    def of(space: Space[Any]) -> Conversion:
        """Return the conversion of a space that is neither Dict nor Tuple."""
        dtype = np.dtype(space.dtype)
        if isinstance(space, spaces.Box) and dtype == np.uint8:
            low, high = space.low.astype(np.int64), space.high.astype(np.int64)
            sizes = np.maximum(high - low, 1)  # a byte that cannot change is zero
            uniform = sizes.size == 0 or bool((sizes == sizes.flat[0]).all())
            narrow = low.any() or (high < 255).any()
            return Conversion(
                dtype,
                start=torch.from_numpy(low) if low.any() else None,
                scale=float(sizes.max(initial=1)) if uniform else torch.from_numpy(sizes),
                bounds=(torch.from_numpy(low), torch.from_numpy(high)) if narrow else None,
                outside="outside the bounds of its Box, by which bytes are scaled; declare the bounds of its values, such as Box(0, 255)",
                of_bytes=sizes.size > 0,
            )
        if isinstance(space, spaces.MultiBinary):
            both, fix = (torch.tensor(0), torch.tensor(1)), "declare a MultiDiscrete, or a Box"
            return Conversion(dtype, bounds=both, outside=f"and a MultiBinary has 0 and 1; {fix}")
        if isinstance(space, spaces.MultiDiscrete):
            start, counts = (torch.as_tensor(np.asarray(n, np.int64)) for n in (space.start, space.nvec))
            line = "outside its own choices in the MultiDiscrete; fix the environment"
            # of as many choices everywhere, the signal's classes are checked
            bounds = None if bool((counts == counts.max()).all()) else (start, start + counts - 1)
            return Conversion(dtype, start if start.any() else None, bounds=bounds, outside=line)
        if isinstance(space, spaces.Discrete) and space.start:
            return Conversion(dtype, torch.as_tensor(np.asarray(space.start)))
        return Conversion(dtype)


class Observations:
    """The signals of an observation space, and its values as tensors.

    A space that is neither Dict nor Tuple is the signal `observation`; a Dict has a signal per key, a Tuple one per index
    (`observation.0`), and names of nested spaces are joined by dots. A part that cannot be a signal is refused only if an
    agent needs it: `unreadable` has the reasons.

    Args:
        space: Observation space of one sub-environment.
        prefix: Prefix of each name, such as an agent's name and a dot.
        training_only: Whether agents cannot observe them.

    Attributes:
        conversions: From the native values of each signal.

    Raises:
        ScenarioError: Two parts have the same name.
    """

    def __init__(self, space: Space[Any], prefix: str = "", *, training_only: bool = False) -> None:
        self._paths: dict[str, Path] = {}
        self.conversions: dict[str, Conversion] = {}
        self.signals: dict[str, Signal] = {}
        self.unreadable: dict[str, str] = {}
        for path, leaf in leaves(space).items():
            name = prefix + signal_name(path)
            if name in self._paths:
                raise ScenarioError(f"env: two observations have the name '{name}'; rename one")
            self._paths[name] = path
            try:
                self.signals[name] = _signal_of(name, leaf, training_only=training_only)
                self.conversions[name] = Conversion.of(leaf)
            except ScenarioError as refusal:
                self.unreadable[name] = str(refusal).removeprefix("env: ")

    def part(self, name: str, observation: Any) -> Any:
        """Return a signal's part of a native observation, of one environment or a batch; RunError where it is None."""
        part = None if observation is None else part_at(observation, self._paths[name])
        if part is None:
            raise RunError(f"env: '{name}' is None; return its value from reset() and step()")
        return part

    def value(self, name: str, raw: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return a copy of a signal's part as its value on a device; `dtype` is the type of floats.

        Raises:
            RunError: It has no numbers, or some outside its space: bytes that are scaled, and choices; or floats for them.
        """
        conversion, signal = self.conversions[name], self.signals[name]
        native = tensor_of(name, raw, device)
        if conversion.of_bytes and native.dtype is not torch.uint8:
            _check_bytes(name, native)
        kind = dtype if signal.classes is None else torch.int64
        of_choices = kind is torch.int64 or (conversion.bounds is not None and not conversion.of_bytes)
        if of_choices and native.is_floating_point():
            _check_whole(name, native)
        native = native if native.dtype is kind else native.to(kind)
        if conversion.bounds is not None and native.shape[native.ndim - len(signal.shape) :] == signal.shape:
            low, high = (bound.to(device) for bound in conversion.bounds)
            outside = (native < low) | (native > high)
            if bool(outside.any()):
                raise RunError(f"env: '{name}' is {native[outside][0].item():g}, {conversion.outside}")
        return conversion(native)


def _check_bytes(name: str, native: Tensor) -> None:
    """Raise a RunError for floats where bytes are scaled, which may be scaled already, and for numbers that are no bytes."""
    kind = str(native.dtype).removeprefix("torch.")
    line = f"'{name}' is {kind}, and its space has bytes, which are scaled to [0, 1]; return it as uint8, or declare {kind} in its space"
    require(not native.is_floating_point(), "env", line, RunError)
    outside = (native < 0) | (native > 255)
    if bool(outside.any()):
        fix = "declare another dtype, such as numpy.int64"
        raise RunError(
            f"env: '{name}' is {native[outside][0].item()}, which its Box of uint8 cannot hold; {fix}"
        )


def _check_whole(name: str, native: Tensor) -> None:
    """Raise a RunError for numbers that are no choices, such as 1.7."""
    fraction = native != native.round()
    if bool(fraction.any()):
        number = native[fraction][0].item()
        raise RunError(f"env: '{name}' is {number:g}, and choices are whole numbers; fix the environment")


def tensor_of(name: str, values: Any, device: torch.device) -> Tensor:
    """Return a copy of an environment's value, as a tensor; RunError if it has no numbers."""
    if isinstance(values, Tensor):
        with torch.no_grad():
            return values.to(device, copy=True)
    try:
        array = np.array(values)
        if not array.dtype.isnative:  # torch reads no other
            array = array.astype(array.dtype.newbyteorder("="))
        tensor = torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        line = " ".join(str(error).split())
        raise RunError(f"env: '{name}' has no numbers ({line}); return an array of them") from None
    return tensor.to(device)


def masks_in(info: Any) -> list[str]:
    """Return the keys of `info` that are named like masks of legal choices; none where it is no mapping."""
    return [key for key in info if _MASK.fullmatch(str(key))] if isinstance(info, Mapping) else []


def flags_of(name: str, values: Any) -> NDArray[np.bool_]:
    """Return flags of an environment as an array on the host; RunError if they are no numbers."""
    if isinstance(values, np.ndarray) and values.dtype == bool:
        return values
    return tensor_of(name, values, torch.device("cpu")).bool().numpy()


class ActionSpace:
    """The action space of agents, and its translation to an environment's own actions.

    Choices start at 0, even if the environment's start elsewhere; a MultiBinary becomes a MultiDiscrete of twos. A Dict
    or Tuple has a part per key or index, and names of nested spaces are joined by dots: the keys of the Dict `space`.

    Args:
        native: The environment's own action space, of one sub-environment.

    Attributes:
        space: The agents' action space: Discrete, MultiDiscrete, Box, or a Dict of these. Other spaces are unchanged: no
            agent can act in them, and actions are random.

    Raises:
        ScenarioError: Two parts have the same name.
    """

    def __init__(self, native: Space[Any]) -> None:
        self._leaves: dict[str, Space[Any]] = {}
        for path, leaf in leaves(native).items():
            name = ".".join(map(str, path))
            twice = f"two parts of the action have the name '{name}'; rename one"
            require(name not in self._leaves, "env", twice, ScenarioError)
            self._leaves[name] = leaf
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

        Raises:
            ScenarioError: Unknown parts, or the wrong number of logits.
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
    """Return what an agent chooses from for a part of the environment's space."""
    match space:
        case spaces.Discrete() if space.start != 0:
            return spaces.Discrete(int(space.n))
        case spaces.MultiDiscrete() if space.start.any() or space.nvec.ndim != 1:
            return spaces.MultiDiscrete(space.nvec.reshape(-1))
        case spaces.MultiBinary():
            return spaces.MultiDiscrete(np.full(math.prod(space.shape), 2))
    return space


def _translated(actions: Any, space: Space[Any], arrays: bool) -> Any:
    """Return a batch of actions of one part as the environment takes it."""
    if isinstance(actions, np.ndarray) and isinstance(
        space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
    ):
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
    """Return the elements of a box that are nearest to some values, [batch, …]: of its own type, or int64 for whole numbers."""
    if space.dtype.kind == "f":
        low, high = (torch.from_numpy(bound).to(values.device) for bound in (space.low, space.high))
        return values.to(low.dtype).clamp(low, high)
    bounds: tuple[Any, ...] = (space.low, space.high)
    if space.dtype == np.uint64:  # torch computes with int64
        bounds = tuple(np.minimum(bound, np.uint64(np.iinfo(np.int64).max)) for bound in bounds)
    low, high = (torch.from_numpy(bound.astype(np.int64)).to(values.device) for bound in bounds)
    # compared as floats, as far ones are no whole numbers of 64 bits
    rounded, least, greatest = values.double().round(), low.double(), high.double()
    return torch.where(rounded <= least, low, torch.where(rounded >= greatest, high, rounded.long()))
