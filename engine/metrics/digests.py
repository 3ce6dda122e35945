"""Digests: whether two runs have learned the same, to the last bit, in eight bytes per agent and per channel.

The digest of an agent is one of its parameters and running statistics, that of a channel one of its synthetic gradient's
and synthetic input's: names, shapes and types, then the numbers in order, however they lie in memory and whatever backend
holds them. SHA-256, for which processors have instructions. Python objects in a scenario have digests too, of their data.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn

from antiphon.agents.learner import Learner
from antiphon.comms.model import Model
from antiphon.comms.stacked import StackedModels
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.step.backends import Backend
from antiphon.scenarios import Scenario
from antiphon.scenarios.spec import plain
from antiphon.telemetry.figures import DigestRow, Kind

if TYPE_CHECKING:
    from hashlib import _Hash as Hash


__all__ = ["SIZE", "Holder", "described_scenario", "digests", "holders", "numbers"]

SIZE = 8
"""Bytes of a digest."""

Holder = Learner | Model
"""What has parameters and running statistics."""


class _Part(NamedTuple):
    """What is digested together: an agent or channel, or a whole stack of them."""

    kind: Kind
    names: tuple[str, ...]
    run: tuple[Holder | StackedModels, ...]
    """What holds its numbers while it is run; of several members stacked, [members, …]."""
    begun: tuple[Hash, ...]
    """By member: the digest of names, shapes and types, which never change."""
    stacked: bool


def digests(backend: Backend, agents: Iterable[str]) -> list[DigestRow]:
    """Return (kind, name, digest) of every agent, then of every channel, between two steps.

    Args:
        backend: What holds their numbers; its order of channels is kept.
        agents: Their names, in order.
    """
    found: dict[tuple[Kind, str], bytes] = {}
    shared: dict[int, bytes] = {}  # of tied agents, who have one learner
    for part in _parts(backend.view()):
        key = id(part.run[0]) if part.run and not part.stacked else None
        if key is None or key not in shared:
            values = list(_digested(part))
            if key is not None:
                shared[key] = values[0]
        else:
            values = [shared[key]]
        found.update(((part.kind, name), value) for name, value in zip(part.names, values, strict=True))
    order: list[tuple[Kind, str]] = [("agent", name) for name in agents]
    order += [("channel", name) for name in backend.channels]
    return [(kind, name, found[kind, name]) for kind, name in order]


def holders(part: Agent | Channel) -> dict[str, Holder]:
    """Return what holds the numbers of an agent or channel, by what their names begin with."""
    if isinstance(part, Agent):
        return {"": part.learner}
    models = {"predictor.": part.predictor, "input.": part.input}
    return {prefix: model for prefix, model in models.items() if model is not None}


def numbers(part: Agent | Channel) -> dict[str, Tensor]:
    """Return what the digest of an agent or channel is of, by name, in order."""
    return {
        f"{prefix}{name}": tensor
        for prefix, holder in holders(part).items()
        for held in (holder.parameters, holder.buffers)
        for name, tensor in held.items()
    }


_PARTS: WeakKeyDictionary[System, list[_Part]] = WeakKeyDictionary()
"""By system: what is digested of it."""


def _parts(system: System) -> list[_Part]:
    if system not in _PARTS:
        parts: list[Agent | Channel] = [*system.agents.values(), *system.channels.values()]
        _PARTS[system] = [_part(part) for part in parts]
    return _PARTS[system]


def _part(part: Agent | Channel) -> _Part:
    kind: Kind = "agent" if isinstance(part, Agent) else "channel"
    begun = tuple(_begun(member) for member in part.members)
    return _Part(kind, part.names, tuple(holders(part).values()), begun, part.stacked)


def _begun(member: Agent | Channel) -> Hash:
    """Return the digest of names, shapes and types."""
    about = [[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in numbers(member).items()]
    return hashlib.sha256(repr(about).encode("utf-8", "surrogatepass"))


def _digested(part: _Part) -> Iterator[bytes]:
    """Yield the digests of the members."""
    held = [
        _bytes(tensor, len(part.names) if part.stacked else 1)
        for holder in part.run
        for tensors in (holder.parameters, holder.buffers)
        for tensor in tensors.values()
    ]
    for member, begun in enumerate(part.begun):
        digest = begun.copy()
        for rows, size in held:
            digest.update(rows[member * size : (member + 1) * size])
        yield digest.digest()[:SIZE]


def _bytes(tensor: Tensor, members: int) -> tuple[memoryview, int]:
    """Return a tensor's bytes, copied only from another device or order, and how many each member has."""
    rows = tensor.data.reshape(-1).view(torch.uint8).cpu().numpy().data
    return rows, len(rows) // members


# --- Python objects in a scenario ------------------------------------------------------------------------

_PLAIN = str | int | float | None


def described_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as plain data, with `{python: TYPE, digest: HEX}` in the place of each Python object.

    The digest is of what can be known of an object: of tensors, arrays and data sets every number; of a module its
    structure, since its parameters are in checkpoints; of a function the name, its defaults and what it encloses; of a
    class and a Gymnasium environment the name; of any other object its public attributes.
    """
    described: dict[str, Any] = _described(plain(scenario))
    return described


def _described(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, _PLAIN):
        return value
    digest = hashlib.sha256()
    for part in _content(value, frozenset()):
        digest.update(part)
    return {
        "python": getattr(value, "__name__", type(value).__name__),
        "digest": digest.hexdigest()[: 2 * SIZE],
    }


def _content(value: Any, outer: frozenset[int]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of an object's digest; `outer`: the objects that it is part of."""
    yield type(value).__qualname__.encode()
    if isinstance(value, Tensor):
        yield f"{value.dtype} {list(value.shape)}".encode()
        yield _bytes(value, 1)[0]
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield b"" if value.dtype.hasobject else value.tobytes()
    elif isinstance(value, nn.Module):
        settings = {name: own for name, own in vars(value).items() if isinstance(own, _PLAIN)}
        settings = {name: own for name, own in settings.items() if name[0] != "_" and name != "training"}
        yield repr((value, settings)).encode()
        for held in (value.named_parameters(), value.named_buffers()):
            yield repr([[name, list(tensor.shape), str(tensor.dtype)] for name, tensor in held]).encode()
    elif isinstance(value, VectorEnv):
        yield repr((value.num_envs, getattr(value.spec, "id", None), value.single_observation_space)).encode()
    elif isinstance(value, _PLAIN | bytes):
        yield repr(value).encode()
    elif id(value) not in outer:
        if hasattr(value, "__qualname__"):
            yield value.__qualname__.encode()
        for part in _parts_of(value):
            yield from _content(part, outer | {id(value)})


def _parts_of(value: Any) -> Iterable[Any]:
    """Return what an object consists of: the items of a collection, or names and values of its public attributes."""
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, Mapping):
        return [part for key in sorted(value, key=str) for part in (str(key), value[key])]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, list | tuple):
        return value
    if is_dataclass(value):
        return [part for field in fields(value) for part in (field.name, getattr(value, field.name))]
    if isinstance(value, FunctionType):
        return value.__defaults__, value.__kwdefaults__, inspect.getclosurevars(value).nonlocals
    if hasattr(value, "__qualname__"):
        return ()
    attributes = getattr(value, "__dict__", {})
    return [part for name in sorted(attributes) if name[0] != "_" for part in (name, attributes[name])]
