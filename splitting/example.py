"""The example that a model is traced on: its arguments, as the signals of an environment."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.base.errors import ScenarioError, first_line
from antiphon.base.nearest_names import suggest
from antiphon.envs.registry import first_signals
from antiphon.envs.signal import Description, Signal
from antiphon.nets.modules import tensors_in
from antiphon.nets.user_modules import (
    check_hooks,
    check_trainable,
    copied,
    hooked,
    own_type,
    probe_of,
    set_mode,
)
from antiphon.splitting.graph import as_dict, call_model, in_own_type, own_copies
from antiphon.splitting.repeats import same_tensors

_BATCH = 3
_NAMED = "give the module inside that names its arguments, or one around it that does"


@dataclass(frozen=True)
class ModelInputs:
    """Arguments of a model.

    Attributes:
        signals: The signal of each.
        example: A value of each, [3, …].
        indices: The arguments that are whole numbers.
    """

    signals: dict[str, str]
    example: dict[str, Tensor]
    indices: frozenset[str]


def check_model(model: object) -> nn.Module:
    """Return a model; ScenarioError unless it is a module with parameters of numbers, and not a wrapper of one."""
    if not isinstance(model, nn.Module):
        raise ScenarioError(f"model is {type(model).__name__}; give a torch.nn.Module, or parts=[module, …]")
    check_trainable(model, "model")
    named = {id(p) for _, p in model.named_parameters()}
    for key, p in nn.Module.named_parameters(model):
        if p.requires_grad and id(p) not in named:
            raise ScenarioError(
                f"named_parameters of {type(model).__name__} leaves out '{key}', which a part would train; set its requires_grad "
                "to False instead"
            )
    check_hooks(model)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta:
            raise ScenarioError(f"'{key}' is not initialised (on the meta device); give an initialised model")
    return model


def arguments(model: nn.Module) -> dict[str, bool]:
    parameters = inspect.signature(model.forward).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        parameter.name: parameter.default is parameter.empty
        for parameter in parameters
        if parameter.kind not in several
    }


def inputs_for(
    model: nn.Module, source: Any, env: Description, inputs: Mapping[str, str] | None
) -> ModelInputs:
    """Return a model's arguments as signals of an environment.

    Their values are random, or where the model does not take these, as of lengths that may be zero, those of a first step.

    Args:
        source: The environment, as in a scenario.

    Raises:
        ScenarioError: A name leads nowhere, or the model does not take the signals.
    """
    signals = _signals(model, env, inputs)
    categorical = frozenset(
        name for name, signal in signals.items() if env.signals[signal].classes is not None
    )
    problem = ""
    for data in (_random, partial(_first, source)):
        values = data({signal: env.signals[signal] for signal in signals.values()})
        for indices in (
            dict.fromkeys((categorical, frozenset[str]())) if values else ()
        ):  # as they are, then one-hot
            example = {
                name: _in_type(model, _entering(values[signal], env.signals[signal], index=name in indices))
                for name, signal in signals.items()
            }
            truths = [name for name, signal in signals.items() if env.signals[signal].truths]
            refusal = _read_otherwise(model, example, truths) or _problem(model, example)
            if refusal is None:
                _check_numbers(model, [(signals[name], env.signals[signals[name]]) for name in indices])
                return ModelInputs(signals, example, indices)
            problem = problem or refusal
    raise ScenarioError(problem)


def _check_numbers(model: nn.Module, read: Iterable[tuple[str, Signal]]) -> None:
    """Refuse classes that enter as whole numbers and are more than the floats of a model distinguish: parts read those."""
    dtype = own_type(model)
    most = int(2 / torch.finfo(dtype).eps) + 1
    for name, signal in read:
        if (signal.classes or 0) > most:
            raise ScenarioError(
                f"'{name}' has {signal.classes:,} classes, and {dtype} can distinguish only {most:,}; number the classes without "
                "gaps, or call double() on model"
            )


def named_example(model: nn.Module, example: Any) -> dict[str, Any]:
    """Return an example, a tensor, tuple or mapping, by the names of the forward's arguments, as a trace computes: on the CPU, in the model's type.

    Raises:
        ScenarioError: The model does not take it.
    """
    names = list(arguments(model))
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        values = tuple(example) if isinstance(example, tuple | list) else (example,)
        named = dict(zip(names, values, strict=False))
        if len(values) > len(names):
            raise ScenarioError(
                f"example: {len(values)} values for the arguments {', '.join(names)}; give one for each"
            )
    for name in named:
        if name not in names:
            raise ScenarioError(f"example: {_no_argument(name, names)}")
    named = {
        name: _in_type(model, value.cpu()) if isinstance(value, Tensor) else value
        for name, value in named.items()
    }
    problem = _problem(model, named)
    if problem is not None:
        raise ScenarioError(problem)
    return named


def _in_type(model: nn.Module, value: Tensor) -> Tensor:
    dtype = own_type(model)
    if value.is_complex():
        return value.to(dtype.to_complex())
    return value.to(dtype) if value.is_floating_point() else value


def _signals(model: nn.Module, env: Description, inputs: Mapping[str, str] | None) -> dict[str, str]:
    names = arguments(model)
    form = f"inputs={{'{next(iter(names), 'x')}': '{env.observations[0]}', …}}"
    if inputs is None:
        needed = [name for name, needs in names.items() if needs]
        inputs = {name: name for name in names if name in needed or name in env.observations}
        if len(needed) == 1 and needed[0] not in env.observations:
            inputs[needed[0]] = "image" if "image" in env.observations else env.observations[0]
        if not needed or not env.signals.keys() >= set(inputs.values()):
            if not names:
                raise ScenarioError(f"{type(model).__name__}.forward names no argument; {_NAMED}")
            raise ScenarioError(f"{type(model).__name__}.forward takes {', '.join(names)}; give {form}")
    if not isinstance(inputs, Mapping):
        raise ScenarioError(f"inputs: {inputs!r}; give {form}")
    inputs = {name: name for name, needs in names.items() if needs and name in env.observations} | dict(
        inputs
    )
    for name, signal in inputs.items():
        if name not in names:
            raise ScenarioError(f"inputs: {_no_argument(name, names)}")
        if signal not in env.signals:
            raise ScenarioError(f"inputs: no signal '{signal}'{suggest(signal, env.observations)}")
    if not inputs:
        raise ScenarioError(
            f"inputs: {{}} names no argument of {type(model).__name__}.forward; give {form}, or leave it out"
        )
    return {name: inputs[name] for name in names if name in inputs}


def _no_argument(name: str, names: Iterable[str]) -> str:
    """Return the line about an argument that a forward does not name: around another module it may pass on all that it gets."""
    accepted = list(names)
    fix = suggest(name, accepted) if accepted else f"; {_NAMED}"
    return f"forward has no argument '{name}'{fix}"


def _random(signals: Mapping[str, Signal]) -> dict[str, Tensor]:
    """Random values of signals, [3, …] each."""
    values = {}
    for seed, (name, signal) in enumerate(signals.items()):
        generator = torch.Generator().manual_seed(seed)
        if signal.classes is not None:
            values[name] = torch.randint(signal.classes, (_BATCH, *signal.shape), generator=generator)
            continue
        value = torch.rand((_BATCH, *signal.shape), generator=generator)
        low, high = max(signal.low, -1.0), min(signal.high, 1.0)
        values[name] = low + (high - low) * value
    return values


def _first(source: Any, signals: Mapping[str, Signal]) -> dict[str, Tensor]:
    """The values of an environment's first step, [3, …] each; none if it cannot be made for that, or some are known later."""
    values = first_signals(source, signals, batch=_BATCH) or {}
    return values if values.keys() == signals.keys() else {}


def _entering(value: Tensor, signal: Signal, *, index: bool) -> Tensor:
    if signal.classes is None or index:
        return value
    return nn.functional.one_hot(value, signal.classes).movedim(-1, 1).float()


def _problem(model: nn.Module, example: Mapping[str, Any]) -> str | None:
    """Why a model does not take an example, in one line; None: it does."""
    try:
        call_copy(model, **example)
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        shapes = {
            name: f" {list(value.shape)}" for name, value in example.items() if isinstance(value, Tensor)
        }
        listed = ", ".join(f"{name}{shapes.get(name, '')}" for name in example)
        fix = _way_to_shape(model, example) or _way_to_width(error)
        return f"{type(model).__name__} does not take {listed} ({first_line(error)}){fix}"
    return None


def _read_otherwise(model: nn.Module, example: Mapping[str, Any], truths: Sequence[str]) -> str | None:
    """Why a model computes something else of the floats 0 and 1 than of the truths in the data; None: it does not.

    An attention adds a mask of floats to its scores.
    """
    floats = dict(example) | {name: _alternating(example[name]) for name in truths}
    for names in dict.fromkeys([tuple(truths), *((name,) for name in truths)]) if truths else ():
        bools = floats | {name: floats[name].bool() for name in names}
        with step_by_step():
            meant, read = _returned(model, bools), _returned(model, floats)
        if meant is not None and (read is None or not same_tensors(read, meant)):
            masks = " and ".join(names)
            fix = "; ".join(f"{name} = {name}.bool()" for name in names)
            entering = (
                "is bool in the data, and enters" if len(names) == 1 else "are bool in the data, and enter"
            )
            kind = type(model).__name__
            other = (
                f"which {kind} does not take" if read is None else f"of which {kind} computes something else"
            )
            return f"{masks} {entering} as the floats 0 and 1, {other}; begin forward with {fix}"
    return None


def _returned(model: nn.Module, example: Mapping[str, Any]) -> list[Tensor] | None:
    """The tensors that a copy of a model returns; None: it raises an error, as a model that is made for another type does."""
    try:
        return tensors_in(as_dict(call_copy(model, **example)))
    except Exception:  # noqa: BLE001  (anything a user's module may raise)
        return None


@contextmanager
def step_by_step() -> Iterator[None]:
    """Compute layers of transformers step by step, as in training: the one operation of evaluation takes any mask for truths."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _alternating(value: Tensor) -> Tensor:
    """A mask of a value's shape and type, of which neither a whole row nor a whole column is alike."""
    places = torch.zeros(value.shape, dtype=torch.long)
    for axis in (0, value.ndim - 1) if value.ndim > 1 else (0,):
        places += torch.arange(value.shape[axis]).view(-1, *[1] * (value.ndim - 1 - axis))
    return (places % 2).to(value.dtype)


def _way_to_width(error: Exception) -> str:
    """Return "; …" with the layer that a tensor does not fit, by the modules that an error passed; what else to do where none is known."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    calls = [
        (frame_locals["self"], frame_locals)
        for frame_locals in frames
        if isinstance(frame_locals.get("self"), nn.Module)
    ]
    inner, names = calls[-1] if calls else (None, {})
    paths = {id(module): path for path, module in calls[0][0].named_modules()} if calls else {}
    read = next(
        (value for name, value in names.items() if name != "self" and isinstance(value, Tensor)), None
    )
    for key, axis in (("in_features", -1), ("in_channels", 1)):
        width = getattr(inner, key, None)
        if isinstance(width, int) and read is not None and read.ndim > 1 and read.shape[axis] != width:
            return (
                f"; '{paths.get(id(inner), '')}' ({type(inner).__name__}) reads {read.shape[axis]} with {key}={width}: "
                "make them equal, or read another signal by `inputs`"
            )
    return "; change forward, or read other signals by `inputs`"


def _way_to_shape(model: nn.Module, example: Mapping[str, Any]) -> str:
    """Return "; begin with …" where a model takes an example that is flattened, or convolves a flat one; empty: neither."""
    tensors = {name: value for name, value in example.items() if isinstance(value, Tensor)}
    flat = {name: value.flatten(1) for name, value in tensors.items() if value.ndim > 2}
    if flat:
        return "; begin with nn.Flatten()" if _problem(model, {**example, **flat}) is None else ""
    convolves = any(type(module).__name__.startswith(("Conv", "LazyConv")) for module in model.modules())
    return "; begin with nn.Unflatten(1, shape)" if convolves and tensors else ""


def call_copy(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Call a copy of a module in evaluation mode, on the CPU and in its own type, without hooks unless it needs them."""
    try:
        return _call(probe_of(module), args, kwargs)
    except Exception:
        if not hooked(module):
            raise
        return _call(copied(module), args, kwargs)


def _call(probe: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    set_mode(in_own_type(probe), False)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if args:
            places = {str(place): value for place, value in enumerate(args)}
            return probe(*own_copies(places).values(), **own_copies(kwargs))
        return call_model(probe, own_copies(kwargs))
