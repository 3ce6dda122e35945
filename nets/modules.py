"""Users' torch modules as functions of (parameters, buffers, inputs), one or many stacked: construction, signatures for
equality, and a comparison of vmap with single calls.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import hashlib
import re
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from antiphon.base.call_errors import users_place
from antiphon.base.errors import ScenarioError, first_line
from antiphon.nets.isolation.global_numbers import draws_numbers, seeded_globally
from antiphon.nets.user_modules import (
    buffers_of,
    cast,
    check_followed,
    copied,
    followed_checkpoints,
    hooked,
    is_meta,
    kept_types,
    own_type,
    parameters_of,
    probe_of,
    set_mode,
    singular,
    with_data,
)
from antiphon.nets.users.plain_trees import bytes_of

Tensors = dict[str, Tensor]
Own = TypeVar("Own", bound=nn.Module)

_ROWS = 4
_TOLERANCE = 1e-4
"""Largest difference between the two evaluations, relative to the largest value."""
_SLOW = re.compile(r"batching rule for (\S+?)\.? ")
"""Operation named in vmap's warning of a sequential fallback."""
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""Attributes of every module; attributes that affect its function are compared by name."""
_ATOMS = (
    types.NoneType,
    bool,
    int,
    str,
    bytes,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    types.FunctionType,
    types.BuiltinFunctionType,
    type,
)
"""Types whose values are compared by equality; functions and classes are compared by identity."""


class IncomparableError(Exception):
    """A module holds an attribute that cannot be compared with another module's."""


def meta_copy(module: Own) -> Own:
    """Return a copy of a module whose trained parameters take no memory (torch's meta device), to call it with other parameters.

    They keep their attributes.
    """
    empty = {id(p): with_data(p, p.data.to("meta")) for p in parameters_of(module).values()}
    return copy.deepcopy(module, dict(empty))


def output_size(module: nn.Module, inputs: int, subject: str) -> int:
    """Return the features of a module's output for [2, inputs]; ScenarioError, beginning with `subject`, if it fails."""
    try:
        shape = _shape(module, inputs)
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise ScenarioError(f"{subject} fails: {first_line(error)}") from None
    if isinstance(shape, str) or len(shape) != 2 or shape[0] != 2:
        raise ScenarioError(f"{subject} returns {shape}; return [batch, features]")
    return shape[1]


def _shape(module: nn.Module, inputs: int, data: Tensor | None = None) -> list[int] | str:
    """Shape of what a module makes of [2, inputs]; the name of its type where it is no tensor."""
    output = _output(probe_of(module), inputs, data)
    return list(output.shape) if isinstance(output, Tensor) else type(output).__name__


def _output(module: nn.Module, inputs: int, data: Tensor | None = None) -> object:
    """What a module makes of [2, inputs], zeros but for data."""
    rows = torch.zeros(2, inputs, dtype=own_type(module))
    if data is not None:
        rows[:, : data.shape[1]] = data
    with torch.no_grad(), seeded_globally(0):
        output: object = set_mode(module, False)(rows)
    return output


def draws(module: nn.Module, inputs: int, *, evaluated: bool = False) -> bool:
    """Whether a module uses random numbers of torch, numpy or Python in training; `evaluated`: or in evaluation."""
    if is_meta(module):
        return False
    probe = probe_of(module)
    modes = (True, False) if evaluated else (True,)
    return any(draws_numbers(partial(_call, probe, inputs, training=training)) for training in modes)


def _call(module: nn.Module, inputs: int, *, training: bool) -> None:
    """Call a module for zeros, and in training go back through it."""
    parameters = {name: p.data.requires_grad_(p.requires_grad) for name, p in parameters_of(module).items()}
    x = torch.zeros(2, inputs, dtype=own_type(module), requires_grad=training)
    with torch.set_grad_enabled(training):
        output, _ = called(set_mode(module, training), parameters, buffers_of(module), x)
        if output.requires_grad:
            inputs_of = [x, *(p for p in parameters.values() if p.requires_grad)]
            torch.autograd.grad(output.sum(), inputs_of, allow_unused=True)


def check_module(
    module: nn.Module,
    inputs: int,
    outputs: int,
    needs: str,
    *,
    takes: str = "",
    random: bool = False,
    data: Callable[[], Tensor | None] | None = None,
) -> None:
    """Check that a module turns [2, inputs] into [2, outputs], without random numbers; copies on the meta device are not checked.

    It is called with zeros, or if it fails for these, as it may for lengths of sequences, with data.

    Args:
        needs: What the outputs are, for the error.
        takes: What the inputs are; empty: as the module says, or their shape.
        random: Whether it may use random numbers in training.
        data: Returns inputs [2, inputs], or None; None: there are none.

    Raises:
        ScenarioError: The module does not, in one line.
    """
    if is_meta(module):
        return
    name = type(getattr(module, "module", module)).__name__  # of what is wrapped
    try:
        try:
            shape = _shape(module, inputs)
        except ScenarioError:
            raise
        except Exception:
            rows = None
            with suppress(Exception):  # of a user's environment, which a run reports
                rows = None if data is None else data()
            if rows is None:
                raise
            shape = _shape(module, inputs, rows)
    except ScenarioError:
        raise
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        if not random and getattr(module, "state_size", None):
            raise ScenarioError(
                f"{name} has a state (state_size), but a prediction must depend on its input alone; use a module without"
            ) from None
        takes = takes or getattr(module, "takes", f"[batch, {inputs}]")
        where = " ({} at {})".format(*place) if (place := users_place(error)) else ""
        raise ScenarioError(
            f"{name} does not take inputs of {takes}, flat numbers (begin with nn.Unflatten(1, shape) for another shape, "
            f"with .long() for integers): {first_line(error)}{where}"
        ) from None
    if shape != [2, outputs]:
        raise ScenarioError(
            f"{name} turns [2, {inputs}] into {shape}; the graph needs [2, {outputs}] ({needs}){_way_to_shape(shape)}"
        )
    if not random and draws(module, inputs):
        raise ScenarioError(
            f"{name} uses random numbers (dropout?), but a prediction must not depend on them; remove them"
        )


def _way_to_shape(shape: object) -> str:
    """Return how a module that returns this reaches [batch, components]; empty where its size is wrong."""
    if not isinstance(shape, list):
        return "; return one tensor (a network with a state has the attribute state_size)"
    return "; end with nn.Flatten()" if len(shape) > 2 else ""


def per_sample(subject: str, values: object, rows: int) -> Tensor:
    """Return a user's losses or metrics if they are one number per sample, [rows]; otherwise raise a ScenarioError."""
    if isinstance(values, Tensor) and values.shape == (rows,):
        if values.is_complex():
            raise ScenarioError(f"{subject} has complex numbers; return real ones (.abs() or .real)")
        return values
    have, fix = type(values).__name__, "return a tensor"
    if isinstance(values, Tensor):
        have, fix = f"{list(values.shape)}", "do not average over the batch (reduction='none')"
        if values.shape[1:] == (rows,):  # [batch] against [batch, 1] is [batch, batch]
            fix = "compare tensors of one shape, and take the mean over all axes but the first"
        elif values.shape[:1] == (rows,):
            fix = "take the mean over all axes but the first (.flatten(1).mean(1))"
    raise ScenarioError(f"{subject} is {have}, not one number per sample, [{rows}]; {fix}")


def mixed_samples(module: nn.Module, inputs: int) -> str | None:
    """Return why samples of a batch of a module in training cannot be computed apart, or with others; None if they can.

    A batch is computed as a whole and in parts. In float64 rounding is negligible, but not every module accepts it.
    """
    if is_meta(module):
        return "its parameters are not in memory"
    if hooked(module):
        return "it has hooks, which see every call"
    if draws(module, inputs):
        return "it uses random numbers (dropout?)"
    failure = ""
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        probe = set_mode(cast(probe_of(module), dtype), True)
        parameters = {name: p.data for name, p in parameters_of(probe).items()}
        buffers = buffers_of(probe)
        x = torch.rand(_ROWS, inputs, generator=torch.Generator().manual_seed(0)).to(dtype)
        try:
            with torch.no_grad():
                together, after = called(probe, parameters, buffers, x)
                if not all(torch.equal(after[name], value) for name, value in buffers.items()):
                    return "a call changes its buffers (batch norm?)"
                outputs = [called(probe, parameters, buffers, batch)[0] for batch in (x[:1], x[1:])]
        except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
            failure = f"it fails for batches of other sizes ({first_line(error)})"
            continue
        apart = torch.cat(outputs)
        close = apart.shape == together.shape and torch.allclose(
            apart, together, rtol=tolerance, atol=tolerance * float(together.abs().amax()), equal_nan=True
        )
        return None if close else "its output for a sample depends on the others in the batch"
    return failure


def called(
    module: nn.Module, parameters: Tensors, buffers: Tensors, x: Tensor, *, keeps_input: bool = False
) -> tuple[Tensor, Tensors]:
    """Return the output of `module` for `x` with these parameters, and its new buffers; nothing changes in place.

    `keeps_input`: whether the module never writes to its input, which then is not copied.
    """
    # Modules change buffers, and some their input, in place: they get copies, so that callers' state is unchanged.
    numbers = {**parameters, **{name: b.clone() for name, b in buffers.items()}}
    y: Tensor = functional_call(module, numbers, (x if keeps_input else x.clone(),))
    return y, _updated_buffers(numbers, buffers)


def called_stacked(
    module: nn.Module, parameters: Tensors, buffers: Tensors, x: Tensor
) -> tuple[Tensor, Tensors]:
    """Evaluate `called` for N modules like this one: every tensor has a leading axis N."""

    def called_once(numbers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        y: Tensor = functional_call(module, numbers, (x,))
        return y, {name: numbers[name] for name in buffers}

    numbers = {**parameters, **{name: b.clone() for name, b in buffers.items()}}
    registries: list[dict[str, Any]] = [
        held for m in module.modules() for held in (m._parameters, m._buffers)
    ]
    before = [dict(registry) for registry in registries]
    try:
        y, after = torch.vmap(called_once)(numbers, x.clone())
    finally:  # torch leaves the last tensors in a module at two places: no tensor of vmap's may stay
        for registry, tensors in zip(registries, before, strict=True):
            registry.update(tensors)
    return y, _updated_buffers(after, buffers)


def _slots(module: nn.Module, names: Iterable[str]) -> dict[str, tuple[dict[str, Any], str]]:
    """Where a module holds its parameters and buffers of some names: the dict of a submodule, and the key in it."""
    slots: dict[str, tuple[dict[str, Any], str]] = {}
    for name in names:
        path, _, key = name.rpartition(".")
        submodule = module.get_submodule(path)
        slots[name] = (submodule._buffers if key in submodule._buffers else submodule._parameters), key
    return slots


def _updated_buffers(numbers: Tensors, buffers: Tensors) -> Tensors:
    """Buffers after a call, which may have replaced them; without the graph of the update."""
    after = {name: numbers[name] for name in buffers}
    return {name: b.data if b.requires_grad else b for name, b in after.items()}


def described(module: nn.Module) -> Hashable:
    """Return a key of the function that `module` computes from its parameters and inputs, without their values.

    Raises:
        IncomparableError: An attribute cannot be compared reliably; the message names it.
    """
    if (reason := singular(module)) is not None:
        raise IncomparableError(reason)
    try:
        key = (
            _of_module(module),
            tuple(name for name, _ in module.named_parameters()),  # modules within may share some
            tuple(buffers_of(module)),
            kept_types(module),
        )
        hash(key)
    except RecursionError:
        raise IncomparableError("its attributes are nested too deeply to compare") from None
    except TypeError as error:
        raise IncomparableError(f"its attributes cannot be compared ({error})") from None
    return key


def _of_module(module: nn.Module) -> Hashable:
    kind = type(module)
    held = vars(module)
    plain = []
    for name in sorted(held.keys() - _OF_EVERY_MODULE):
        try:
            plain.append((name, _of_value(held[name])))
        except IncomparableError as error:
            raise IncomparableError(f"attribute '{name}' of its {kind.__name__} {error}") from None
    numbers = [
        (name, None if t is None else (tuple(t.shape), t.dtype))
        for tensors in (module._parameters, module._buffers)
        for name, t in tensors.items()
    ]
    parts = [(name, None if m is None else _of_module(m)) for name, m in module._modules.items()]
    return kind, tuple(plain), tuple(numbers), tuple(parts)


def _of_value(value: Any) -> Hashable:
    kind = type(value)
    if kind in _ATOMS:
        return kind, value
    if kind is float:
        return kind, value.hex()  # zeros have signs
    if kind in (tuple, list, torch.Size):
        return kind, tuple(_of_value(v) for v in value)
    if kind in (set, frozenset):
        return kind, frozenset(_of_value(v) for v in value)
    if kind in (dict, OrderedDict):
        return kind, tuple((_of_value(k), _of_value(v)) for k, v in value.items())
    if kind is functools.partial:
        return kind, _of_value(value.func), _of_value(value.args), _of_value(value.keywords)
    if kind is Tensor and value.layout is torch.strided:
        return kind, value.dtype, tuple(value.shape), hashlib.blake2b(bytes_of(value)).hexdigest()
    if isinstance(value, enum.Enum):
        return kind, value.name
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        if not set(getattr(value, "__dict__", {})) - set(names):
            return kind, tuple((name, _of_value(getattr(value, name))) for name in names)
    raise IncomparableError(f"({kind.__name__}) cannot be compared")


class ModuleFunction:
    """A user's module as a function of (parameters, buffers, x), for one network or N stacked ones."""

    def __init__(self, module: nn.Module, inputs: int, outputs: int) -> None:
        self.module, self.inputs, self.outputs = module, inputs, outputs
        self._mode: tuple[nn.Module, bool] | None = None
        self._buffer_slots: dict[str, tuple[dict[str, Any], str]] = {}
        self._followed = False

    @functools.cached_property
    def key(self) -> Hashable:
        """A key of the function it computes; the key of a module that cannot be compared equals only itself."""
        try:
            return described(self.module)
        except IncomparableError:
            return object()

    @functools.cached_property
    def refusal(self) -> str | None:
        """Why it cannot be called with stacked parameters, in one line; None if it can."""
        return refusal(self.module, self.inputs)

    @functools.cached_property
    def row_split_obstacle(self) -> str | None:
        """Why samples of a batch cannot be computed apart, in one line; None if they can."""
        return mixed_samples(self.module, self.inputs)

    def probe(self) -> ModuleFunction:
        """Return the same function for trial calls, which call no hook and leave what the module keeps as it is."""
        probe = probe_of(self.module, shared=self.module.parameters())
        return ModuleFunction(probe, self.inputs, self.outputs)

    def initial_values(self) -> tuple[Tensors, Tensors]:
        """Return the module's trained parameters themselves, with their hooks, and copies of its buffers."""
        return {**parameters_of(self.module)}, {
            name: b.clone() for name, b in buffers_of(self.module).items()
        }

    def __call__(
        self,
        parameters: Tensors,
        buffers: Tensors,
        x: Tensor,
        *,
        training: bool,
        keeps_input: bool = False,
    ) -> tuple[Tensor, Tensors]:
        """Return the output for `x`, [B, …] or with stacked tensors [N, B, …], and the new buffers: see `called`."""
        if self._mode is None or self._mode[0] is not self.module or self._mode[1] is not training:
            set_mode(self.module, training)
            self._mode, self._buffer_slots = (self.module, training), _slots(self.module, buffers)
        if x.dim() == 3:
            return called_stacked(self.module, parameters, buffers, x)
        if self._followed or not torch.is_grad_enabled():
            y, updated = called(self.module, parameters, buffers, x, keeps_input=keeps_input)
        else:
            name = type(self.module).__name__
            with followed_checkpoints(name):
                y, updated = called(self.module, parameters, buffers, x, keeps_input=keeps_input)
            check_followed(name, y)
            self._followed = True
        if updated and torch.is_grad_enabled():
            # What is computed in the backward pass (a checkpoint, a hook, a user's Function) reads and changes the module's own.
            for name, (tensors, key) in self._buffer_slots.items():
                tensors[key].data = updated[name].data
        return y, updated


class _RefusedError(Exception):
    """Why a module cannot be stacked."""


class _UntriedError(_RefusedError):
    """Why a module could not be run alone."""


_refusals: dict[Hashable, str | None] = {}
_MOST_REFUSALS = 256


def refusal(module: nn.Module, inputs: int) -> str | None:
    """Return why modules like `module` with `inputs` features cannot be stacked, in one line; None if they can.

    Two stacked modules are compared with each alone: outputs, buffers and gradients, in training and evaluation. The
    result is cached for modules with the same key.
    """
    if (reason := singular(module)) is not None:
        return reason
    try:
        key = described(module), inputs
    except IncomparableError:
        return _tried(module, inputs)
    if key not in _refusals:
        if len(_refusals) >= _MOST_REFUSALS:
            _refusals.clear()
        _refusals[key] = _tried(module, inputs)
    return _refusals[key]


def _tried(module: nn.Module, inputs: int) -> str | None:
    why: str | None = None
    # In float64 rounding is negligible, but not every module accepts it.
    for dtype in (torch.float64, torch.float32):
        probe = cast(copied(module), dtype)
        try:
            with seeded_globally(0), warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                for training in (True, False):
                    _try(set_mode(probe, training), torch.rand(2, _ROWS, inputs, dtype=dtype))
        except _UntriedError as untried:
            why = str(untried)
        except (_RefusedError, IncomparableError) as refused:
            return str(refused)
        else:
            slow = [match[1] for w in warned if (match := _SLOW.search(str(w.message)))]
            return f"vmap runs {slow[0]} sequentially" if slow else None
    return why


def _try(module: nn.Module, xs: Tensor) -> None:
    """Raise, with a reason, unless `module` computes the same stacked as alone."""
    numbers = [_numbers(module) for _ in xs]
    before = described(module)
    alone = [_alone(module, values, x) for values, x in zip(numbers, xs, strict=True)]
    parameters, buffers = (
        {name: torch.stack([values[i][name] for values in numbers]) for name in numbers[0][i]} for i in (0, 1)
    )
    try:
        stacked = _with_gradients(called_stacked, module, parameters, buffers, xs)
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise _RefusedError(f"vmap fails: {first_line(error).removeprefix('vmap: ')}") from None
    try:
        unchanged = described(module) == before
    except RuntimeError:  # what it keeps is a tensor of vmap's
        unchanged = False
    if not unchanged:
        raise _RefusedError("it changes its own attributes when called")
    for i, single in enumerate(alone):
        if not all(_close(stacked[name][i], value) for name, value in single.items()):
            raise _RefusedError("its results differ when stacked")


def _numbers(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Parameters and buffers, perturbed from the module's own; from zeros where these have no memory."""
    data = {
        name: torch.zeros(p.shape, dtype=p.dtype) if p.is_meta else p.data
        for name, p in parameters_of(module).items()
    }
    parameters = {name: p + 0.1 * torch.randn_like(p) for name, p in data.items()}
    buffers = {
        name: b * (1 + 0.1 * torch.rand_like(b)) if b.is_floating_point() else b.clone()
        for name, b in buffers_of(module).items()
    }
    return parameters, buffers


def _alone(module: nn.Module, numbers: tuple[Tensors, Tensors], x: Tensor) -> Tensors:
    state = torch.get_rng_state()
    try:
        results = _with_gradients(called, module, *numbers, x)
    except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
        raise _UntriedError(f"it fails on random inputs: {first_line(error)}") from None
    if not torch.equal(torch.get_rng_state(), state):
        raise _RefusedError("it uses random numbers (dropout?)")
    return results


def _with_gradients(
    call: Callable[..., tuple[Tensor, Tensors]],
    module: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    x: Tensor,
) -> Tensors:
    """Output, new buffers and gradients of parameters and input, by unique names."""
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    x = x.clone().requires_grad_()
    y, after = call(module, leaves, buffers, x)
    results: Tensors = {"y": y} | {f"b.{name}": b for name, b in after.items()}
    if y.requires_grad:
        # a plain sum of what is normalised has no gradient
        weights = torch.linspace(0.5, 1.5, y.shape[-1], dtype=y.dtype)
        reached = torch.autograd.grad((y.square() * weights).sum(), [x, *leaves.values()], allow_unused=True)
        names = ["x", *(f"p.{name}" for name in leaves)]
        of = zip(names, [x, *leaves.values()], reached, strict=True)
        results |= {f"g.{name}": torch.zeros_like(t) if g is None else g for name, t, g in of}
    return {name: t.data for name, t in results.items()}


def _close(actual: Tensor, expected: Tensor) -> bool:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        return False
    if actual.is_complex():
        actual, expected = torch.view_as_real(actual), torch.view_as_real(expected)
    actual, expected = actual.double(), expected.double()
    largest = float(expected.abs().nan_to_num(0, 0).amax()) if expected.numel() else 0.0
    return torch.allclose(actual, expected, rtol=0, atol=_TOLERANCE * max(largest, 0.1), equal_nan=True)
