"""Registry of environments, and construction from a scenario's id, source or environment object.

An environment is one class: its `Options`, its description before it is made (`describe`), and its behaviour. Its module is
imported when its id is used.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from pydantic import create_model

from antiphon.base.deferred import Deferred
from antiphon.base.errors import ScenarioError, require
from antiphon.base.extensions import is_users
from antiphon.base.imports import allowed_by_name, import_allowed, imported, note_registrars
from antiphon.base.nearest_names import suggest_registered
from antiphon.base.problems import MISSING, DocumentError, UnknownKey, as_whole, show_value
from antiphon.envs.env_keys import EnvOptions, StackOptions, is_flag
from antiphon.envs.signal import Description

if TYPE_CHECKING:
    import torch

    from antiphon.envs import base
else:
    torch, base = Deferred("torch"), Deferred("antiphon.envs.base")

_FILES = "antiphon/Tensors-v0"
"""The id of an environment whose data are in files."""
_environments: dict[str, Callable[..., Any] | str] = {
    "antiphon/Digits-v0": "antiphon.envs.images:Digits",
    "antiphon/Mnist-v0": "antiphon.envs.images:Mnist",
    "antiphon/Cifar10-v0": "antiphon.envs.images:Cifar10",
    "antiphon/Hyperplane-v0": "antiphon.envs.stream:Hyperplane",
    "antiphon/CountDigits-v0": "antiphon.envs.counting:CountDigits",
    "antiphon/Copy-v0": "antiphon.envs.copying:Copy",
    "antiphon/RepeatCopy-v0": "antiphon.envs.copying:RepeatCopy",
    "antiphon/CharText-v0": "antiphon.envs.text:CharText",
    "antiphon/TextWindows-v0": "antiphon.envs.text:TextWindows",
    "antiphon/CartPole-v0": "antiphon.envs.worlds.cartpole:CartPole",
    "antiphon/SpeakerListener-v0": "antiphon.envs.worlds.speaker:SpeakerListener",
    "antiphon/KeyDoor-v0": "antiphon.envs.worlds.keydoor:KeyDoor",
    "antiphon/CaptureFlag-v0": "antiphon.envs.worlds.captureflag:CaptureFlag",
    "antiphon/Referential-v0": "antiphon.envs.worlds.referential:Referential",
    _FILES: "antiphon.envs.data:Tensors",
}
"""Factories by id, or the module and name of each."""
_ADAPTORS = {
    "gymnasium": "antiphon.envs.adaptors.gymnasium_ids:open_vector",
    "pettingzoo": "antiphon.envs.adaptors.parallel:open_copies",
}
"""Factories by the prefix of an id before the slash, called with name, batch and the other keys."""
_copies: dict[int, weakref.ref[object]] = {}
"""Environments that `copied` has made, by their ids."""
_LENGTHS = ("max_episode_steps", "max_steps", "max_cycles")
"""Lengths of episodes: of Gymnasium, where -1 is no limit, and of environments of other packages."""
_SETTINGS = ("num_envs", "device", "dtype")
"""Arguments of a factory that are not options."""


def ids() -> tuple[str, ...]:
    """Return the ids that a scenario may use."""
    return tuple(_environments)


def register(name: str, factory: Callable[..., Any]) -> None:
    """Register your own environment under an id for use in scenario files.

    Args:
        name: The id. A factory that was registered under it before is replaced.
        factory: A class with `Options`, an `EnvOptions` with a field for each key of a scenario's `env`. It is called with the
            number of environments, the options, and the keywords `device` and `dtype`; its static method
            `describe(options)`, if it has one, returns its `Description` without making it. Or any other class or function:
            the keys are its arguments, together with `num_envs`, `device`, `dtype` and `split` (for an evaluation) if its
            signature has them. Either returns a `gymnasium.vector.VectorEnv`, such as a `TorchVectorEnv`, of `num_envs`; a
            single `gymnasium.Env` or `pettingzoo.ParallelEnv`, which is made once per environment of the batch; or a source,
            see `antiphon.envs.from_tensors`.

    Raises:
        ScenarioError: The id is one of antiphon's own.
    """
    built_in = isinstance(_environments.get(name), str)
    require(
        not built_in, "register", f"environment '{name}' is antiphon's own; choose another id", ScenarioError
    )
    _environments[name] = factory
    note_registrars(name)


def is_known(name: str) -> bool:
    """Whether there is an environment of an id, once what scenario files may import is imported.

    `MODULE:CLASS` is an environment of one's own without a name, if it may be imported (`allow_import`).

    Raises:
        ScenarioError: A module may not be imported, cannot be, or has nothing of that name.
    """
    name = str(name)
    module, _, attribute = name.partition(":")
    if name in _environments or name.partition("/")[0] in _ADAPTORS:
        return True
    if attribute.isidentifier() and "/" not in module:
        register(name, allowed_by_name(name, "env.id"))
        return True
    import_allowed()
    return name in _environments


def unknown_id(name: str) -> str | None:
    """Return the line about an id of no environment, with the nearest one; None: there is an environment."""
    if is_known(name):
        return None
    theirs = f"; did you mean 'gymnasium/{name}'?" if name in gymnasium.registry else ""
    ours = next(
        (known for known in ids() if re.fullmatch(rf"[^/]*/{re.escape(str(name))}(-v\d+)?", known)), None
    )
    theirs = theirs or (f"; did you mean '{ours}'?" if ours else "")
    return f"no environment '{name}'{theirs or suggest_registered(str(name), ids())}"


def options_of(name: str) -> type[EnvOptions]:
    """Return the options of an id: of its class, or the arguments of its factory; ScenarioError for an unknown id."""
    if (problem := unknown_id(name)) is not None:
        raise ScenarioError(f"env.id: {problem}")
    factory = _factory(name)
    return factory.Options if hasattr(factory, "Options") else _arguments(factory)


def option_names(name: str) -> frozenset[str]:
    """Return the keys of an id, as far as they are known before it is made."""
    return frozenset(options_of(name).model_fields) if name in _environments else frozenset()


def unknown_keys(env: object) -> list[UnknownKey]:
    """Return the keys of a declared environment that its id does not have; none where that is not known before it is made."""
    if not (isinstance(env, Mapping) and isinstance(env.get("id"), str) and env["id"] in _environments):
        return []
    try:
        options_of(env["id"])(**{key: value for key, value in env.items() if key != "id"})
    except DocumentError as error:
        return [problem for problem in error.separate() if isinstance(problem, UnknownKey)]
    return []


def _factory(name: str) -> Any:
    factory = _environments[name]
    return imported(factory) if isinstance(factory, str) else factory


def _arguments(factory: Callable[..., Any]) -> type[EnvOptions]:
    """Return the arguments of a factory as options, with any values but of flags."""
    keys: dict[str, Any] = {}
    extra = "forbid"
    for key, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = "allow"
        elif parameter.kind is not parameter.VAR_POSITIONAL and key not in _SETTINGS and key[0] != "_":
            default = parameter.default
            kind = bool if is_flag(parameter) else Any
            keys[key] = kind, ... if default is parameter.empty else default
    config = {"extra": extra, "use_attribute_docstrings": False}  # there is no source to search for them
    with warnings.catch_warnings():  # of `rows`, which is a method here too, an instance has the argument
        warnings.filterwarnings("ignore", "Field name .* shadows an attribute")
        return create_model("Options", __base__=EnvOptions, __cls_kwargs__=config, **keys)


def with_paths(env: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a declared environment with the names of its files, if any, resolved in a folder."""
    if env.get("id") != _FILES:
        return dict(env)
    files = {key for key in ("file", "test", "validation") if isinstance(env.get(key), str)}
    return {key: str((folder / value).absolute()) if key in files else value for key, value in env.items()}


def describe(spec: Any) -> Description:
    """Return an environment's description, reading only headers of its data; for `spec` and errors see `make`."""
    kind, name, values = _declared(spec)
    if kind == "id" and hasattr(factory := _factory(name), "describe"):
        return factory.describe(factory.Options(**values))  # type: ignore[no-any-return]
    if isinstance(getattr(spec, "description", None), Description):
        return spec.description  # type: ignore[no-any-return]
    if isinstance(spec, VectorEnv):
        return make(spec, batch=spec.num_envs).description
    with closing(make(spec, batch=1)) as env:
        return env.description


def first_signals(spec: Any, names: Iterable[str], batch: int) -> dict[str, torch.Tensor] | None:
    """Return signals of an environment's first step, [batch, …] each; None: it is one object, which cannot be made again.

    Args:
        names: Of the signals; those that are known only after a step are left out.
    """
    if isinstance(spec, VectorEnv):
        return None
    with closing(make(spec, batch=batch)) as env:
        requested = [name for name in names if name in env.signals]
        env.request(requested)
        observations, info = env.reset(seed=0)
        values = {**info, **observations}
        return {name: values[name] for name in requested if name in values}


def is_users_own(spec: Any) -> bool:
    """Return whether a specification makes environments of a user's own code, again and again."""
    if isinstance(spec, VectorEnv):
        return False
    kind, name, _ = _declared(spec)
    if kind is None:
        return is_users(type(spec))
    return kind == "id" and not name.startswith("antiphon/")


def copied(spec: Any, reason: str) -> Any:
    """Return a specification whose environments share nothing with the environments of `spec`: environment objects are copied.

    Raises:
        ScenarioError: An environment object cannot be copied; the line has the `reason` why a copy is needed.
    """
    if not isinstance(spec, VectorEnv):
        return spec
    copies: dict[int, Any] = {}
    why = ""
    try:
        duplicate = copy.deepcopy(spec, copies)
    except Exception as error:  # noqa: BLE001  (anything a user's object may raise)
        why = " ".join(str(error).split()) or type(error).__name__
    else:
        needed = ("num_envs", "single_observation_space", "single_action_space")
        lost = [name for name in needed if hasattr(spec, name) and not hasattr(duplicate, name)]
        why = f"its copy has no {lost[0]}" if lost else ""  # such as Gymnasium's NumpyToTorch
    for pipe in (value for value in copies.values() if isinstance(value, Connection)):
        vars(pipe).clear()  # a copy has the descriptor of the original, and would close it when it is deleted
        why = "it has pipes to other processes"
    if why:
        fix = "name a registered environment (id), give it a __deepcopy__, or run one simulation at a time"
        raise ScenarioError(f"env: {type(spec).__name__} cannot be copied ({why}), and {reason}; {fix}")
    for key in [key for key, reference in _copies.items() if reference() is None]:
        del _copies[key]
    _copies[id(duplicate)] = weakref.ref(duplicate)
    return duplicate


def _is_handed_over(spec: Any) -> bool:
    """Return whether a specification is an environment that the caller has made, and closes."""
    reference = _copies.get(id(spec))
    return isinstance(spec, VectorEnv) and (reference is None or reference() is not spec)


def obstacle_to_copies(spec: Any) -> str | None:
    """Return why two environments of a specification, reset to one seed, may differ; None: they are equal.

    Built-in environments, and a user's `TorchVectorEnv` or source, are functions of their seed and actions.
    """
    kind, name, _ = _declared(spec)
    if kind in _ADAPTORS:
        return f"'{name}' is an environment of {kind}, whose state may not depend on its seed alone"
    if isinstance(spec, VectorEnv):
        return f"{type(spec).__name__} is a single object without copies"
    if (obstacle := getattr(spec, "obstacle_to_copies", None)) is not None:
        return str(obstacle)
    if kind == "id" and not name.startswith("antiphon/"):
        with closing(make(spec, batch=1)) as env:
            if type(env).__module__.startswith("antiphon.envs.adaptors."):
                return f"'{name}' makes Gymnasium or PettingZoo environments, whose state may not depend on their seed alone"
    return None


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
            `make` that takes the other arguments, such as a `Source`; or a Gymnasium vector environment.
        batch: Number of environments.
        device: Device of the signals.
        dtype: Type of float signals; None: float32.
        split: The split of a data set that is streamed; None: the split in `spec`, or train.

    Raises:
        ScenarioError: An unknown id, option or split, an invalid value, or an environment of another batch.
        DataError: The data are missing or damaged.
        RunError: An external environment fails.
    """
    import torch

    from antiphon.nets.isolation.global_numbers import seeded_globally
    from antiphon.nets.isolation.own_context import own_context

    count = as_whole(batch)
    needs = "a whole number" if count is None else "at least 1"
    require((count or 0) > 0, "training.batch", f"{batch!r}; must be {needs}", ScenarioError)
    with own_context(), seeded_globally(0):
        return _made(spec, batch, device, torch.float32 if dtype is None else dtype, split)


def _made(
    spec: Any, batch: int, device: torch.device | str, dtype: torch.dtype, split: str | None
) -> base.TorchVectorEnv:
    from antiphon.envs.base import check_split

    wrapped = functools.partial(_wrapped, _is_handed_over(spec), batch, device, dtype, split)
    kind, name, values = _declared(spec)
    if kind is None:
        return wrapped(spec)
    if kind == "id":
        if split is not None and hasattr(_factory(name), "describe"):
            check_split(split, describe(spec).splits)
        return wrapped(_built(name, values, split, {"num_envs": batch, "device": device, "dtype": dtype}))
    for key in _LENGTHS:
        length = values.get(key)
        no_limit = length is None or (length == -1 and key == "max_episode_steps")
        if not no_limit and (type(length) is not int or length < 1):
            fix = "must be a whole number of steps from 1, or leave it out"
            raise ScenarioError(f"env.{key}: {show_value(length)}; {fix}")
    if split is not None:
        check_split(split, ())
    if kind == "gymnasium" and name in ids():
        raise ScenarioError(f"env.id: '{name}' is built in; write env: {{id: {name}}}")
    return wrapped(imported(_ADAPTORS[kind])(name, batch, values))


def _wrapped(
    stays_open: bool,
    batch: int,
    device: torch.device | str,
    dtype: torch.dtype,
    split: str | None,
    made: Any,
) -> base.TorchVectorEnv:
    """Return a vector environment, a list of parallel environments or a source as an environment of torch signals."""
    from antiphon.envs.base import TorchVectorEnv

    if isinstance(made, VectorEnv):
        problem = f"{batch}, but the environment has {made.num_envs} sub-environments; make them equal"
        require(made.num_envs == batch, "training.batch", problem, ScenarioError)
    if isinstance(made, TorchVectorEnv):
        made.stays_open = stays_open
        return made
    if isinstance(made, VectorEnv | list):
        from antiphon.envs.adaptors.gymnasium_vector import VectorAdaptor
        from antiphon.envs.adaptors.parallel import ParallelAdaptor

        adaptor: Any = ParallelAdaptor if isinstance(made, list) else VectorAdaptor
        try:
            env = adaptor(made, device=device, dtype=dtype)
        except ScenarioError:
            if isinstance(made, VectorEnv) and not stays_open:
                made.close()
            raise
        env.stays_open = stays_open
        return env  # type: ignore[no-any-return]
    if callable(getattr(made, "make", None)):
        return made.make(batch=batch, device=device, dtype=dtype, split=split or "train")  # type: ignore[no-any-return]
    way = "from_tensors"
    if hasattr(made, "dataset"):
        way = "from_loader"
    elif hasattr(made, "__getitem__") and hasattr(made, "__len__"):
        way = "from_dataset"
    fix = f"pass an id, antiphon.envs.{way}(…) or a VectorEnv"
    raise ScenarioError(f"env: {type(made).__name__} is not an environment; {fix}")


def _declared(spec: Any) -> tuple[str | None, str, dict[str, Any]]:
    """Return who makes an environment (`id`: antiphon), its name and the other keys; None for objects without an id."""
    spec = {"id": spec} if isinstance(spec, str) else spec
    keys = dict(spec if isinstance(spec, Mapping) else getattr(spec, "kwargs", {}))
    name = keys.pop("id", None) if isinstance(spec, Mapping) else getattr(spec, "id", None)
    if name is None and not isinstance(spec, Mapping):
        return None, "", {}
    if name is None:
        raise DocumentError(("env", "id"), MISSING)
    kind, _, rest = str(name).partition("/")
    if kind in _ADAPTORS:
        return kind, rest, keys
    options_of(str(name))
    return "id", str(name), keys


def _called(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a factory; ScenarioError where it fails."""
    from antiphon.envs.adaptors.checked import making  # it loads torch, which names and options do not need

    with making(name):
        return factory(**arguments)


def _in_rows(
    name: str, make: Callable[[], Any], first: Any, batch: int, stack: int | None
) -> VectorEnv[Any, Any, Any]:
    """Return environments as the rows of one that resets in the same step; ScenarioError where their spaces differ."""
    from antiphon.envs.adaptors.checked import making
    from antiphon.envs.adaptors.gymnasium_ids import row_of

    for member in ("observation_space", "action_space"):
        line = f"'{name}' has no {member}; set it in its __init__"
        require(hasattr(first, member), "env.id", line, ScenarioError)
    with making(name, "let every call make the same spaces"):
        envs = [first, *(make() for _ in range(batch - 1))]
        rows = [functools.partial(row_of, env, stack) for env in envs]
        return SyncVectorEnv(rows, autoreset_mode=AutoresetMode.SAME_STEP)


def _built(name: str, values: Mapping[str, Any], split: str | None, settings: Mapping[str, Any]) -> Any:
    """Return what a class or factory makes of the keys of a document: a source, copies, or a vector environment."""
    factory, model = _factory(name), options_of(name)
    parameters = inspect.signature(factory).parameters
    takes_split = split is not None and "split" in model.model_fields
    chosen = {"split": split} if takes_split else {}
    stack = None
    if hasattr(factory, "Options"):
        arguments: dict[str, Any] = {"options": model(**{**values, **chosen})}
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    else:
        if "stack" in values and "stack" not in model.model_fields:
            stack = StackOptions(stack=values["stack"]).stack
            values = {key: value for key, value in values.items() if key != "stack"}
        options = model(**{**values, **chosen})
        arguments = {key: getattr(options, key) for key in options.model_fields_set}
        takes_all = False
    arguments |= {key: settings[key] for key in settings if key in parameters or takes_all}
    built = _called(name, factory, arguments)
    make, batch = functools.partial(_called, name, factory, arguments), settings["num_envs"]
    if isinstance(built, gymnasium.Env):
        return _in_rows(name, make, built, batch, stack)
    if stack is not None:
        fix = "stack its observations itself"
        raise ScenarioError(f"env.stack: '{name}' makes {type(built).__name__}, and no gymnasium.Env; {fix}")
    if all(hasattr(built, name) for name in ("possible_agents", "observation_space", "step")):
        return [built, *(make() for _ in range(batch - 1))]
    if callable(getattr(built, "observation_space", None)) and not hasattr(built, "possible_agents"):
        fix = "name in it all agents that may take part, as PettingZoo's environments do"
        raise ScenarioError(
            f"env: '{name}' returned {type(built).__name__}, which has no possible_agents; {fix}"
        )
    if callable(getattr(built, "make", None)):
        return built
    if isinstance(built, VectorEnv):
        if split is not None and not takes_split:
            raise ScenarioError(f"env.split: '{name}' has no argument split for '{split}'; add it")
        return built
    kinds = "a gymnasium.Env, a VectorEnv, a PettingZoo ParallelEnv or a source"
    raise ScenarioError(f"env: '{name}' returned {type(built).__name__}; its factory must return {kinds}")
