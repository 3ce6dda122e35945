"""The example that a model is traced on: its arguments, as the signals of an environment."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from antiphon.base.errors import ScenarioError, suggest
from antiphon.envs.signal import Description, Signal

_BATCH = 5


def inputs_for(
    model: nn.Module, env: Description, inputs: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the signals of a model's arguments, and an example of these, [5, …] each: random, categorical ones as whole numbers."""
    signals, generator = _signals(model, env, inputs), torch.Generator().manual_seed(0)
    values = {name: _random(env.signals[signal], generator) for name, signal in signals.items()}
    return signals, named_example(model, values)


def named_example(model: nn.Module, example: Any) -> dict[str, Any]:
    """Return an example, a tensor, tuple or mapping, by the names of the forward's arguments."""
    names = [*inspect.signature(model.forward).parameters]
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        values = tuple(example) if isinstance(example, tuple | list) else (example,)
        named = dict(zip(names, values, strict=False))
    for name, value in named.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            named[name] = value.to(own_type(model))
    return named


def own_type(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())


def _signals(model: nn.Module, env: Description, inputs: Mapping[str, str] | None) -> dict[str, str]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p for p in inspect.signature(model.forward).parameters.values() if p.kind not in kinds]
    names = [p.name for p in parameters]
    needed = [p.name for p in parameters if p.default is p.empty]
    form = f"inputs={{'{next(iter(names), 'x')}': '{env.observations[0]}', …}}"
    chosen = {name: name for name in names if name in env.observations}
    if inputs is None and len(needed) == 1:
        chosen.setdefault(needed[0], "image" if "image" in env.observations else env.observations[0])
    if inputs is not None:
        chosen = {name: name for name in chosen if name in needed} | dict(inputs)
    if not chosen or not {*needed} <= chosen.keys():
        raise ScenarioError(f"{type(model).__name__}.forward takes {', '.join(names)}; give {form}")
    for name, signal in chosen.items():
        if name not in names:
            raise ScenarioError(f"inputs: forward has no argument '{name}'{suggest(name, names)}")
        if signal not in env.signals:
            raise ScenarioError(f"inputs: no signal '{signal}'{suggest(signal, env.observations)}")
    return {name: chosen[name] for name in names if name in chosen}


def _random(signal: Signal, generator: torch.Generator) -> Tensor:
    shape = _BATCH, *signal.shape
    if signal.classes is not None:  # a length is above zero
        return torch.randint(int(signal.classes > 2), signal.classes, shape, generator=generator)
    low, high = max(signal.low, -1.0), min(signal.high, 1.0)
    return low + (high - low) * torch.rand(shape, generator=generator)
