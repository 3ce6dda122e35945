"""Registry of environments, and construction from a scenario's id, source or environment object."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import VectorEnv

from antiphon.envs.options import (
    CopyOptions,
    CountOptions,
    HyperplaneOptions,
    ImageOptions,
    RepeatCopyOptions,
    TextOptions,
)
from antiphon.envs.signal import Description
from antiphon.errors import ScenarioError, suggest

if TYPE_CHECKING:
    import torch

    from antiphon.envs.base import TorchVectorEnv

__all__ = ["copied", "describe", "ids", "make", "register"]

_Options = ImageOptions | HyperplaneOptions | CountOptions | CopyOptions | RepeatCopyOptions | TextOptions


@dataclass(frozen=True, slots=True)
class _Entry:
    """Registry entry of an id."""

    options: type[_Options]
    vector: str
    """Module and class of the vectorised kind; made of the options' fields."""
    single: str
    """Module and class of the plain kind."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Default options of the id."""


def _pictures(data: str) -> _Entry:
    module = "antiphon.envs.images"
    return _Entry(ImageOptions, f"{module}:ImageStream", f"{module}:ImageExample", {"data": data})


_ENTRIES = {
    "antiphon/Digits-v0": _pictures("digits"),
    "antiphon/Mnist-v0": _pictures("mnist"),
    "antiphon/Cifar10-v0": _pictures("cifar10"),
    "antiphon/Hyperplane-v0": _Entry(
        HyperplaneOptions,
        "antiphon.envs.stream:HyperplaneStream",
        "antiphon.envs.stream:HyperplaneExample",
    ),
    "antiphon/CountDigits-v0": _Entry(
        CountOptions, "antiphon.envs.counting:CountDigits", "antiphon.envs.counting:CountDigitsLane"
    ),
    "antiphon/Copy-v0": _Entry(CopyOptions, "antiphon.envs.copying:Copy", "antiphon.envs.copying:CopyLane"),
    "antiphon/RepeatCopy-v0": _Entry(
        RepeatCopyOptions, "antiphon.envs.copying:RepeatCopy", "antiphon.envs.copying:RepeatCopyLane"
    ),
    "antiphon/CharText-v0": _Entry(
        TextOptions, "antiphon.envs.reading:CharText", "antiphon.envs.reading:CharTextLane"
    ),
}


def ids() -> tuple[str, ...]:
    """Return the ids that a scenario document may name."""
    return tuple(_ENTRIES)


def register() -> None:
    """Register the ids with Gymnasium; called by `import antiphon.envs`."""
    for name, entry in _ENTRIES.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name, entry_point=entry.single, vector_entry_point=entry.vector, kwargs=dict(entry.defaults)
            )


def describe(spec: Any) -> Description:
    """Return an environment's description, reading no more of its data than headers.

    Args:
        spec: As of `make`.

    Raises:
        ScenarioError: As `make`.
        DataError: A header that is there and broken.
    """
    found = _read(spec)
    if found is not None:
        return found[1].description()
    if isinstance(getattr(spec, "description", None), Description):
        return spec.description  # type: ignore[no-any-return]
    if isinstance(spec, VectorEnv):
        return make(spec, batch=spec.num_envs).description
    with closing(make(spec, batch=1)) as env:
        return env.description


def copied(spec: Any, reason: str) -> Any:
    """Return a specification whose environments share nothing with those of `spec`.

    Args:
        spec: As of `make`. Only an environment object is copied: anything else makes a new environment at every call.
        reason: For the error: what needs the copy.

    Raises:
        ScenarioError: It is an object that cannot be copied.
    """
    if not isinstance(spec, VectorEnv):
        return spec
    try:
        return copy.deepcopy(spec)
    except Exception as error:  # noqa: BLE001  (anything a user's object may raise)
        line = " ".join(str(error).split())
        raise ScenarioError(
            f"env: {type(spec).__name__} cannot be copied ({line}), and {reason}; give it a __deepcopy__, or run one "
            "simulation at a time"
        ) from None


def make(
    spec: Any,
    *,
    batch: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    split: str | None = None,
) -> TorchVectorEnv:
    """Make the environment that a scenario declares.

    Args:
        spec: A mapping `{"id": …, **options}`, or an object with such an `id` and `kwargs`; anything with a `make`
            that takes the other arguments, such as a `Source`; or a Gymnasium vector environment.
        batch: Number of environments.
        split: The part of a data set that is streamed; None: the one in `spec`, or train.

    Raises:
        ScenarioError: An unknown id, option or split, a value that cannot be, or an environment of another batch.
        DataError: The data are missing or broken.
    """
    import torch

    from antiphon.envs.base import check_split

    dtype = torch.float32 if dtype is None else dtype
    found = _read(spec)
    if found is not None:
        entry, given = found
        module, _, cls = entry.vector.partition(":")
        options = {item.name: getattr(given, item.name) for item in fields(given)}
        if split is not None:
            check_split(split, given.description().splits)
            options["split"] = split
        made: TorchVectorEnv = getattr(import_module(module), cls)(
            batch, device=device, dtype=dtype, **options
        )
        return made
    if isinstance(spec, VectorEnv):
        from antiphon.envs.adaptor import vector

        return vector(spec, batch, device=device, dtype=dtype)
    if callable(getattr(spec, "make", None)):
        return spec.make(batch=batch, device=device, dtype=dtype, split=split or "train")  # type: ignore[no-any-return]
    raise ScenarioError(
        f"env: {type(spec).__name__} is no environment; give an id, antiphon.envs.from_tensors(…) or a VectorEnv"
    )


def _read(spec: Any) -> tuple[_Entry, _Options] | None:
    """Return the registry entry and options of a declared environment, or None for other objects."""
    if isinstance(spec, Mapping):
        name, values = spec.get("id"), {key: value for key, value in spec.items() if key != "id"}
    elif hasattr(spec, "id") and isinstance(getattr(spec, "kwargs", None), Mapping):
        name, values = spec.id, dict(spec.kwargs)
    else:
        return None
    if name not in ids():
        raise ScenarioError(f"env.id: no environment '{name}'{suggest(str(name), _ENTRIES)}")
    entry = _ENTRIES[name]
    known = [item.name for item in fields(entry.options)]
    for key in values:
        if key not in known:
            raise ScenarioError(f"env.{key}: unknown key{suggest(key, known)}")
    return entry, entry.options(**{**entry.defaults, **values})
