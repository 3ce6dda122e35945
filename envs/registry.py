"""Registry of environments, and construction from a scenario's id, source or environment object.

An id is the library's, with options that are known before it is made, or the user's, with a factory.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from antiphon.envs.options import (
    CopyOptions,
    CountOptions,
    HyperplaneOptions,
    ImageOptions,
    RepeatCopyOptions,
    TextOptions,
    WindowOptions,
)
from antiphon.envs.signal import Description
from antiphon.envs.worlds.options import (
    CartPoleOptions,
    KeyDoorOptions,
    ReferentialOptions,
    SpeakerListenerOptions,
)
from antiphon.errors import ScenarioError, suggest
from antiphon.extensions import imported

if TYPE_CHECKING:
    import torch

    from antiphon.envs.base import TorchVectorEnv

__all__ = ["copied", "describe", "ids", "make", "obstacle_to_copies", "register", "with_paths"]

_Options = (
    ImageOptions
    | HyperplaneOptions
    | CountOptions
    | CopyOptions
    | RepeatCopyOptions
    | TextOptions
    | WindowOptions
    | CartPoleOptions
    | KeyDoorOptions
    | ReferentialOptions
    | SpeakerListenerOptions
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Registry entry of an id."""

    options: type[_Options]
    kind: str
    """Module and class; made of a number of environments and the options."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """Default options of the id."""


def _pictures(data: str) -> _Entry:
    return _Entry(ImageOptions, "antiphon.envs.images:ImageStream", {"data": data})


_ENTRIES = {
    "antiphon/Digits-v0": _pictures("digits"),
    "antiphon/Mnist-v0": _pictures("mnist"),
    "antiphon/Cifar10-v0": _pictures("cifar10"),
    "antiphon/Hyperplane-v0": _Entry(HyperplaneOptions, "antiphon.envs.stream:HyperplaneStream"),
    "antiphon/CountDigits-v0": _Entry(CountOptions, "antiphon.envs.counting:CountDigits"),
    "antiphon/Copy-v0": _Entry(CopyOptions, "antiphon.envs.copying:Copy"),
    "antiphon/RepeatCopy-v0": _Entry(RepeatCopyOptions, "antiphon.envs.copying:Copy"),
    "antiphon/CharText-v0": _Entry(TextOptions, "antiphon.envs.reading:CharText"),
    "antiphon/TextWindows-v0": _Entry(WindowOptions, "antiphon.envs.reading:TextWindows"),
    "antiphon/CartPole-v0": _Entry(CartPoleOptions, "antiphon.envs.worlds.cartpole:CartPole"),
    "antiphon/SpeakerListener-v0": _Entry(
        SpeakerListenerOptions, "antiphon.envs.worlds.speaker:SpeakerListener"
    ),
    "antiphon/KeyDoor-v0": _Entry(KeyDoorOptions, "antiphon.envs.worlds.keydoor:KeyDoor"),
    "antiphon/Referential-v0": _Entry(ReferentialOptions, "antiphon.envs.worlds.referential:Referential"),
}


_TENSORS = "antiphon/Tensors-v0"


_ADAPTORS = {
    "gymnasium": "antiphon.envs.adaptors.vector:gymnasium_world",
    "pettingzoo": "antiphon.envs.adaptors.parallel:pettingzoo_world",
}
"""By the key of a document's `env` that names the world, what makes it of name, batch and the other keys."""
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_FACTORIES: dict[str, Callable[..., Any] | str] = {_TENSORS: "antiphon.envs.tensors:from_file"}
"""By id, what makes the environments, or its module and name."""


def ids() -> tuple[str, ...]:
    """Return the ids that a scenario document may name."""
    return (*_ENTRIES, *_FACTORIES)


def register(name: str, factory: Callable[..., Any]) -> None:
    """Give an environment of one's own an id, by which scenario documents name it.

    Args:
        name: The id.
        factory: A class or function. The other keys of a document's `env` are its arguments, and so are those of
            `num_envs`, `device`, `dtype` and `split` (of an evaluation) that it names. It returns a
            `gymnasium.vector.VectorEnv`, such as a `TorchVectorEnv`, of `num_envs`; or a single `gymnasium.Env` or
            `pettingzoo.ParallelEnv`, of which as many are made as the batch has; or a source, as `antiphon.envs.from_tensors` does.

    Raises:
        ScenarioError: The id is taken, or the factory cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise ScenarioError(f"register: {name!r}; the id of an environment must be text")
    if name in ids():
        raise ScenarioError(f"register: there is an environment '{name}' already; choose another id")
    if not callable(factory):
        raise ScenarioError(
            f"register: '{name}': a {type(factory).__name__} makes no environments; give a class or a function"
        )
    _FACTORIES[name] = factory


def with_paths(env: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a declared environment with the names of its files, if it has any, in a folder."""
    if env.get("id") != _TENSORS:
        return dict(env)
    files = {key for key in ("file", "test", "validation") if isinstance(env.get(key), str)}
    return {key: str((folder / value).absolute()) if key in files else value for key, value in env.items()}


def describe(spec: Any) -> Description:
    """Return an environment's description, reading no more of its data than headers.

    Args:
        spec: As of `make`.

    Raises:
        ScenarioError: As `make`.
        DataError: A header that is there and broken.
    """
    declared = None if _foreign(spec) else _declared(spec)
    if declared is not None and declared[0] in _ENTRIES:
        return _options(*declared)[1].description()
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


def obstacle_to_copies(spec: Any) -> str | None:
    """Return why two environments of a specification, reset to one seed, may come to differ; None: they are equal.

    Those of antiphon, and a user's `TorchVectorEnv` or source, are functions of their seed and actions.

    Args:
        spec: As of `make`.

    Raises:
        ScenarioError: As `make`.
    """
    if foreign := _foreign(spec):
        kind, name, _ = foreign
        return f"'{name}' is a world of {kind}, which may hold more than its seed sets"
    if isinstance(spec, VectorEnv):
        return f"{type(spec).__name__} is one object, of which there are no copies"
    declared = _declared(spec)
    if declared is None or declared[0] in _ENTRIES:
        return None
    with closing(make(spec, batch=1)) as env:
        if type(env).__module__.startswith("antiphon.envs.adaptors."):
            return f"'{declared[0]}' makes worlds of Gymnasium or PettingZoo, which may hold more than their seed sets"
    return None


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
        spec: A mapping `{"id": …, **options}`, where instead of `id` may stand `gymnasium` or `pettingzoo`, or an object
            with these as attributes and `kwargs`; anything with a `make` that takes the other arguments, such as a
            `Source`; or a Gymnasium vector environment.
        batch: Number of environments.
        split: The part of a data set that is streamed; None: the one in `spec`, or train.

    Raises:
        ScenarioError: An unknown id, option or split, a value that cannot be, or an environment of another batch.
        DataError: The data are missing or broken.
        RunError: Somebody else's environment fails.
    """
    import torch

    from antiphon.envs.base import check_split

    dtype = torch.float32 if dtype is None else dtype
    if foreign := _foreign(spec):
        kind, name, values = foreign
        if kind == "gymnasium" and name in ids():
            raise ScenarioError(f"env.gymnasium: '{name}' is antiphon's own; write env: {{id: {name}}}")
        if split is not None:
            check_split(split, ())
        opened: TorchVectorEnv = imported(_ADAPTORS[kind])(name, batch, values, device=device, dtype=dtype)
        return opened
    declared = _declared(spec)
    if declared is not None and declared[0] in _FACTORIES:
        spec = _built(*declared, split, {"num_envs": batch, "device": device, "dtype": dtype})
    elif declared is not None:
        entry, options = _options(*declared)
        if split is not None:
            check_split(split, options.description().splits)
            options = replace(options, split=split)  # type: ignore[arg-type]  # some have no splits
        made: TorchVectorEnv = imported(entry.kind)(batch, options, device=device, dtype=dtype)
        return made
    if isinstance(spec, VectorEnv):
        from antiphon.envs.adaptors.vector import vector

        return vector(spec, batch, device=device, dtype=dtype)
    if callable(getattr(spec, "make", None)):
        return spec.make(batch=batch, device=device, dtype=dtype, split=split or "train")  # type: ignore[no-any-return]
    raise ScenarioError(
        f"env: {type(spec).__name__} is no environment; give an id, antiphon.envs.from_tensors(…) or a VectorEnv"
    )


def _declared(spec: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the id and the other keys of a declared environment, or None for other objects."""
    if isinstance(spec, Mapping):
        name, values = spec.get("id"), {key: value for key, value in spec.items() if key != "id"}
    elif hasattr(spec, "id") and isinstance(getattr(spec, "kwargs", None), Mapping):
        name, values = spec.id, dict(spec.kwargs)
    else:
        return None
    if name not in ids():
        raise ScenarioError(f"env.id: no environment '{name}'{suggest(str(name), ids())}")
    return name, values


def _foreign(spec: Any) -> tuple[str, str, dict[str, Any]] | None:
    """Return the key, the name and the other keys of a world of Gymnasium or PettingZoo, or None for other objects."""
    for kind in _ADAPTORS:
        if isinstance(spec, Mapping) and "id" not in spec:
            name, values = spec.get(kind), {key: value for key, value in spec.items() if key != kind}
        else:
            name, values = getattr(spec, kind, None), getattr(spec, "kwargs", {})
        if isinstance(name, str):
            return kind, name, dict(values)
    return None


def _options(name: str, values: Mapping[str, Any]) -> tuple[_Entry, _Options]:
    """Return the entry of an id of the library, and its options."""
    entry = _ENTRIES[name]
    known = [item.name for item in fields(entry.options)]
    for key in values:
        if key not in known:
            raise ScenarioError(f"env.{key}: unknown key{suggest(key, known)}")
    return entry, entry.options(**{**entry.defaults, **values})


def _built(name: str, values: Mapping[str, Any], split: str | None, settings: Mapping[str, Any]) -> Any:
    """Return what a user's factory makes: a source, or a vector environment of the batch.

    Args:
        name: The id.
        values: The other keys of the document.
        split: The part of a data set; None: the one that the factory, or `values`, begins with.
        settings: More arguments, for a factory that names them.
    """
    found = _FACTORIES[name]
    factory = imported(found) if isinstance(found, str) else found
    signature = inspect.signature(factory)
    kinds = {key: parameter.kind for key, parameter in signature.parameters.items()}
    known = [key for key, kind in kinds.items() if kind not in _REST]
    for key in values:
        if key in settings or (key not in known and inspect.Parameter.VAR_KEYWORD not in kinds.values()):
            raise ScenarioError(f"env.{key}: unknown key{suggest(key, set(known) - set(settings))}")
    arguments = {**values, **{key: value for key, value in settings.items() if key in known}}
    if split is not None and "split" in known:
        arguments["split"] = split
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ScenarioError(f"env: '{name}': {error}; give it as a key of env") from None
    made = factory(**arguments)
    if all(hasattr(made, name) for name in ("possible_agents", "observation_space", "step")):
        copies = [made, *(factory(**arguments) for _ in range(settings["num_envs"] - 1))]
        adaptor = imported("antiphon.envs.adaptors.parallel:ParallelAdaptor")
        return adaptor(copies, device=settings["device"], dtype=settings["dtype"])
    if isinstance(made, gymnasium.Env):
        others = [lambda: factory(**arguments)] * (settings["num_envs"] - 1)
        return SyncVectorEnv([lambda: made, *others], autoreset_mode=AutoresetMode.SAME_STEP)
    if callable(getattr(made, "make", None)):
        return made
    if isinstance(made, VectorEnv):
        if split is not None and "split" not in known:
            raise ScenarioError(
                f"env.split: the factory of '{name}' takes no split, such as '{split}'; let it take one"
            )
        return made
    raise ScenarioError(
        f"env: '{name}' makes an object of type {type(made).__name__}; its factory must return a gymnasium.Env, a VectorEnv, "
        "a parallel world of PettingZoo or a source"
    )
