"""Registry of environments, and construction from a recipe: an id with keys, a function, or a source.

An environment is one class: its `Options`, its description before it is made (`describe`), and its behaviour. Its module is
imported when its id is used. A recipe can be made again: evaluations, forks, seeds and parts each make their own.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import VectorEnv
from pydantic import create_model

from antiphon.base.errors import ScenarioError, require, suggest_registered
from antiphon.base.imports import import_given, imported
from antiphon.base.problems import MISSING, DocumentError
from antiphon.envs.options import EnvOptions
from antiphon.envs.signal import Description

if TYPE_CHECKING:
    import torch

    from antiphon.envs import base

_environments: dict[str, Callable[..., Any] | str] = {
    "antiphon/Digits-v0": "antiphon.envs.images:Digits",
    "antiphon/Hyperplane-v0": "antiphon.envs.stream:Hyperplane",
    "antiphon/CountDigits-v0": "antiphon.envs.counting:CountDigits",
    "antiphon/Copy-v0": "antiphon.envs.copying:Copy",
    "antiphon/CharText-v0": "antiphon.envs.text:CharText",
    "antiphon/TextWindows-v0": "antiphon.envs.text:TextWindows",
    "antiphon/CartPole-v0": "antiphon.envs.worlds.cartpole:CartPole",
    "antiphon/SpeakerListener-v0": "antiphon.envs.worlds.speaker:SpeakerListener",
    "antiphon/KeyDoor-v0": "antiphon.envs.worlds.keydoor:KeyDoor",
    "antiphon/CaptureFlag-v0": "antiphon.envs.worlds.captureflag:CaptureFlag",
    "antiphon/Referential-v0": "antiphon.envs.worlds.referential:Referential",
}
"""Factories by id, or the module and name of each."""
_ADAPTED = ("gymnasium", "pettingzoo")
"""Prefixes of ids, before the slash, whose environments are those of another library."""
_SETTINGS = ("num_envs", "device", "dtype", "split")
"""Arguments of a factory that are not options."""


def ids() -> tuple[str, ...]:
    """Return the ids that a scenario may use."""
    return tuple(_environments)


def register(name: str, factory: Callable[..., Any]) -> None:
    """Register your own environment under an id for use in scenario files.

    Args:
        name: The id. What was registered under it before is replaced.
        factory: A class with `Options`, an `EnvOptions` with a field for each key of a scenario's `env`. It is called with the
            number of environments, the options, and the keywords `device` and `dtype`; its static method
            `describe(options)`, if it has one, returns its `Description` without making it. Or any other class or function:
            the keys are its arguments, together with `num_envs`, `device`, `dtype` and `split` (for an evaluation) if its
            signature has them. Either returns a `gymnasium.vector.VectorEnv`, such as a `TorchVectorEnv`, of `num_envs`; a
            single `gymnasium.Env` or `pettingzoo.ParallelEnv`, which is made once per environment of the batch; or a source,
            see `antiphon.envs.from_tensors`.
    """
    _environments[name] = factory


def unknown_id(name: str) -> str | None:
    """Return the line about an id of no environment, once the modules that a command was given are imported; None: there is one."""
    name = str(name)
    if name in _environments or name.partition("/")[0] in _ADAPTED:
        return None
    import_given()
    if name in _environments:
        return None
    theirs = f"; did you mean 'gymnasium/{name}'?" if name in gymnasium.registry else ""
    return f"no environment '{name}'{suggest_registered(name, ids(), theirs)}"


def options_of(name: str) -> type[EnvOptions]:
    """Return the options of an id: of its class, or the arguments of its factory; ScenarioError for an unknown id."""
    if (problem := unknown_id(name)) is not None:
        raise ScenarioError(f"env.id: {problem}")
    factory = _factory(name)
    return factory.Options if hasattr(factory, "Options") else _arguments(factory)


def _factory(name: str) -> Any:
    factory = _environments[name]
    return imported(factory) if isinstance(factory, str) else factory


def _arguments(factory: Callable[..., Any]) -> type[EnvOptions]:
    """Return the arguments of a factory as options, with any values."""
    keys: dict[str, Any] = {}
    extra = "forbid"
    for key, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not parameter.VAR_POSITIONAL and key not in _SETTINGS and key[0] != "_":
            keys[key] = Any, ... if parameter.default is parameter.empty else parameter.default
    config = {"extra": extra, "use_attribute_docstrings": False}  # there is no source to search for them
    with warnings.catch_warnings():  # of `rows`, which is a method here too, an instance has the argument
        warnings.filterwarnings("ignore", "Field name .* shadows an attribute")
        return create_model("Options", __base__=EnvOptions, __cls_kwargs__=config, **keys)


def describe(spec: Any) -> Description:
    """Return an environment's description, reading only headers of its data; for `spec` and errors see `make`."""
    kind, name, values = _declared(spec)
    if kind == "id" and hasattr(factory := _factory(name), "describe"):
        return factory.describe(factory.Options(**values))  # type: ignore[no-any-return]
    if isinstance(getattr(spec, "description", None), Description):
        return spec.description  # type: ignore[no-any-return]
    with closing(make(spec, batch=1)) as env:
        return env.description


def is_users_own(spec: Any) -> bool:
    """Return whether a recipe makes environments that antiphon does not have."""
    kind, name, _ = _declared(spec)
    return kind != "source" and not name.startswith("antiphon/")


def obstacle_to_copies(spec: Any) -> str | None:
    """Return why two environments of a recipe, reset to one seed, may differ; None: they are equal.

    Built-in environments, and a user's `TorchVectorEnv` or source, are functions of their seed and actions.
    """
    if (obstacle := getattr(spec, "obstacle_to_copies", None)) is not None:
        return str(obstacle)
    with closing(make(spec, batch=1)) as env:
        if env.given is None:
            return None
        return f"{env.name} is an environment of Gymnasium or PettingZoo, whose state may not depend on its seed alone"


def make(
    spec: Any,
    *,
    batch: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    split: str | None = None,
) -> base.TorchVectorEnv:
    """Make the environment that a scenario declares.

    Args:
        spec: An id; a mapping `{"id": …, **options}`, or an object with `id` and the options as `kwargs`; an object with a method
            `make` that takes the other arguments, such as a `Source`; or a factory as for `register`, without keys.
        batch: Number of environments.
        device: Device of the signals.
        dtype: Type of float signals; None: float32.
        split: The split of a data set that is streamed; None: train.

    Raises:
        ScenarioError: An unknown id, option or split, an invalid value, or an environment of another batch.
        DataError: The data are missing or damaged.
    """
    import torch

    from antiphon.envs.base import TorchVectorEnv, check_split
    from antiphon.envs.gymnasium import VectorAdaptor, open_vector, rows_of
    from antiphon.envs.pettingzoo import ParallelAdaptor, open_copies
    from antiphon.nets.random import torch_seeded

    settings = {"device": device, "dtype": torch.float32 if dtype is None else dtype}
    kind, name, values = _declared(spec)
    with torch_seeded(0):
        if kind in _ADAPTED:
            if split is not None:
                check_split(split, ())
            if kind == "gymnasium" and name in ids():
                raise ScenarioError(f"env.id: '{name}' is built in; write env: {{id: {name}}}")
            try:
                made = (open_vector if kind == "gymnasium" else open_copies)(name, batch, values)
            except TypeError as error:
                raise ScenarioError(f"env: '{name}' cannot be made: {error}") from error
        elif kind == "source":
            made = spec
        else:
            factory = _factory(name) if kind == "id" else spec
            if split is not None and hasattr(factory, "describe"):
                check_split(split, describe(spec).splits)
            chosen = {} if split is None else {"split": split}
            made = _built(name, factory, values, {"num_envs": batch, **settings, **chosen})
        if isinstance(made, list):
            if hasattr(made[0], "possible_agents"):
                return ParallelAdaptor(made, **settings)
            made = rows_of(made)
        if not isinstance(made, VectorEnv):
            return made.make(batch=batch, **settings, split=split or "train")
        other = f"{batch}, but the environment has {made.num_envs} sub-environments; make them equal"
        require(made.num_envs == batch, "training.batch", other, ScenarioError)
        return made if isinstance(made, TorchVectorEnv) else VectorAdaptor(made, **settings)


def _declared(spec: Any) -> tuple[str, str, dict[str, Any]]:
    """Return what makes an environment, its name and the keys.

    It is `id` (a registered factory), `gymnasium`, `pettingzoo`, `source` (an object with `make`) or `function`.
    """
    spec = {"id": spec} if isinstance(spec, str) else spec
    keys = dict(spec if isinstance(spec, Mapping) else getattr(spec, "kwargs", {}))
    name = keys.pop("id", None) if isinstance(spec, Mapping) else getattr(spec, "id", None)
    if name is None and isinstance(spec, Mapping):
        raise DocumentError(("env", "id"), MISSING)
    if name is None:
        if callable(getattr(spec, "make", None)):
            return "source", type(spec).__name__, {}
        require(callable(spec), "env", recipe_instead_of(spec), ScenarioError)
        return "function", getattr(spec, "__name__", type(spec).__name__), {}
    kind, _, rest = str(name).partition("/")
    if kind in _ADAPTED:
        return kind, rest, keys
    options_of(str(name))
    return "id", str(name), keys


def recipe_instead_of(value: object) -> str:
    """Return what to pass in place of an object that is no recipe of environments."""
    name = type(getattr(value, "unwrapped", value)).__name__
    if hasattr(value, "reset") and hasattr(value, "step"):
        again = "evaluations, forks and seeds make environments of their own"
        arguments = " num_envs" if hasattr(value, "num_envs") else ""
        return f"{name} is an environment, and {again}; pass what makes one: env=lambda{arguments}: {name}(…)"
    data = "antiphon.envs.from_tensors(…), from_dataset(…) or from_loader(…)"
    return f"{name} makes no environments; pass an id, a function that makes them, or for data {data}"


def _built(name: str, factory: Any, values: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """Return what a factory makes of keys: a vector environment, a source, or a list of environments, one for each row."""
    parameters, declares = inspect.signature(factory).parameters, hasattr(factory, "Options")
    options = (factory.Options if declares else _arguments(factory))(**values)
    arguments = (
        {"options": options} if declares else {key: getattr(options, key) for key in options.model_fields_set}
    )
    takes_all = declares and any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    arguments |= {key: settings[key] for key in settings if key in parameters or takes_all}
    built = factory(**arguments)
    if isinstance(built, gymnasium.Env) or hasattr(built, "possible_agents"):
        return [built, *(factory(**arguments) for _ in range(settings["num_envs"] - 1))]
    if isinstance(built, VectorEnv):
        lacks = f"'{name}' has no argument split for '{settings.get('split')}'; add it"
        require("split" in arguments or "split" not in settings, "env.split", lacks, ScenarioError)
        return built
    kinds = "a gymnasium.Env, a VectorEnv, a PettingZoo ParallelEnv or a source"
    other = f"'{name}' returned {type(built).__name__}; its factory must return {kinds}"
    require(callable(getattr(built, "make", None)), "env", other, ScenarioError)
    return built
