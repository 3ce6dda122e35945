"""Users' torch modules as functions of (parameters, buffers, x), for one network or several stacked.

A module works with `copy.deepcopy` and `torch.func.functional_call`; what must survive is a parameter or a buffer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from antiphon.base.errors import ScenarioError, first_line
from antiphon.base.extensions import key_of
from antiphon.nets.random import torch_seeded

Tensors = dict[str, Tensor]
ModuleSource = Callable[..., nn.Module] | nn.Module

_TOLERANCE = 1e-4
"""Largest difference between two evaluations, relative to the largest value."""


def module_of(source: ModuleSource, seed: int, /, **arguments: Any) -> nn.Module:
    """Return a copy of a module, or a factory's result with torch seeded, on the CPU; ScenarioError where it is no module."""
    if isinstance(source, nn.Module):
        module = copy.deepcopy(source)
    else:
        with torch_seeded(seed):
            module = source(**arguments)
        if not isinstance(module, nn.Module):
            raise ScenarioError(
                f"the factory returned {type(module).__name__}, not a torch.nn.Module; return one"
            )
    return module if is_meta(module) else module.cpu()


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def buffers_of(module: nn.Module) -> Tensors:
    """Return the tensors of a module that no optimiser changes: frozen parameters, and buffers."""
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return frozen | dict(module.named_buffers())


def is_meta(module: nn.Module) -> bool:
    return any(p.is_meta for p in module.parameters())


def meta_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module whose trained parameters take no memory (torch's meta device), to call it with others."""
    return copy.deepcopy(
        module, {id(p): nn.Parameter(p.data.to("meta")) for p in parameters_of(module).values()}
    )


def check_module(module: nn.Module, inputs: int, outputs: int, needs: str) -> None:
    """Raise ScenarioError where a module does not turn [2, inputs] into [2, outputs], which are what the graph `needs`."""
    if is_meta(module):  # without memory it cannot be called
        return
    name = type(getattr(module, "module", module)).__name__  # of what is wrapped
    rows = torch.ones(2, inputs, dtype=next((p.dtype for p in module.parameters()), None))
    try:
        with torch.no_grad(), torch_seeded(0):
            output = copy.deepcopy(module).eval()(rows)
    except ScenarioError:
        raise
    except Exception as error:
        takes = getattr(module, "takes", f"[batch, {inputs}]")
        raise ScenarioError(f"{name} does not take inputs of {takes}: {first_line(error)}") from error
    found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if found != [2, outputs]:
        raise ScenarioError(
            f"{name} turns [2, {inputs}] into {found}; the graph needs [2, {outputs}] ({needs})"
        )


def per_sample(subject: str, values: object, rows: int) -> Tensor:
    """Return a user's losses or metrics, [rows]; ScenarioError if they are not one number per sample."""
    if isinstance(values, Tensor) and values.shape == (rows,):
        return values
    found = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
    raise ScenarioError(f"{subject} is {found}, not one number per sample, [{rows}]; use reduction='none'")


def called(module: nn.Module, parameters: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
    """Return the output of `module`, or of N like it, for `x` with these parameters, and its new buffers; nothing changes in place."""
    values = {**parameters, **{name: b.clone() for name, b in buffers.items()}}

    def call(values: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        y: Tensor = functional_call(module, values, (x,))
        return y, {name: values[name] for name in buffers}

    y, after = torch.vmap(call)(values, x) if x.dim() == 3 else call(values, x)
    return y, {name: b.data if b.requires_grad else b for name, b in after.items()}


class ModuleFunction:
    """A user's module, made for the seed, as a function of (parameters, buffers, x), for one network or N stacked ones.

    Its key, of the `kind`, sources and their options, and of shapes, is that of its function; `make` returns another one for a seed.
    """

    def __init__(
        self,
        module: nn.Module,
        make: Callable[[int], nn.Module],
        kind: tuple[object, dict[str, Any]],
        seed: int,
        inputs: int,
    ) -> None:
        self._make, self._seed, self._inputs = make, seed, inputs
        self.module = module
        self._mode: bool | None = None
        self._parameters, self._buffers = parameters_of(self.module), buffers_of(self.module)
        tensors = [*self._parameters.items(), *self._buffers.items()]
        shapes = tuple((name, t.dtype, tuple(t.shape)) for name, t in tensors)
        self.key: Hashable = key_of(*kind), shapes, inputs
        self._source = kind[0]
        """Kept, so that no other object has its identity, which the key has."""

    @cached_property
    def stacking_obstacle(self) -> str | None:
        """Why several cannot be called at once, in one line; None if they can."""
        if self.key not in _obstacles:
            _obstacles[self.key] = self._source, self._tried()
        return _obstacles[self.key][1]

    def _tried(self) -> str | None:
        """Compare two modules, made apart, with both stacked: they may differ in what is no parameter or buffer."""
        modules = self._make(self._seed), self._make(self._seed + 1)
        with torch_seeded(0):
            values = [_perturbed(module) for module in modules]
            xs = torch.rand(2, 4, self._inputs, dtype=next((p.dtype for p in values[0][0].values()), None))
            parameters, buffers = (
                {name: torch.stack([first[name], second[name]]) for name in first}
                for first, second in zip(*values, strict=True)
            )
            for training in (True, False):
                try:
                    stacked = called(modules[0].train(training), parameters, buffers, xs)
                except Exception as error:  # noqa: BLE001  (what torch refuses: random numbers, branches on values)
                    return f"vmap fails: {first_line(error).removeprefix('vmap: ')}"
                for i, module in enumerate(modules):
                    alone = called(module.train(training), *values[i], xs[i])
                    pairs = [(stacked[0][i], alone[0])]
                    pairs += [(stacked[1][name][i], value) for name, value in alone[1].items()]
                    if not all(_close(*pair) for pair in pairs):
                        return "its results differ when stacked"
        return None

    @cached_property
    def row_split_obstacle(self) -> str | None:
        """Why samples of a batch cannot be computed apart, in one line; None if they can."""
        mixed = "its samples depend on one another, or on chance (batch norm, dropout)"
        if is_meta(self.module):
            return mixed
        with torch.no_grad(), torch_seeded(0):
            module = self._make(self._seed).train()
            parameters, buffers = _perturbed(module)
            x = torch.rand(4, self._inputs, dtype=next((p.dtype for p in parameters.values()), None))
            try:
                together, after = called(module, parameters, buffers, x)
                apart = torch.cat([called(module, parameters, buffers, part)[0] for part in (x[:1], x[1:])])
            except Exception:  # noqa: BLE001  (batch norm does not take a single row)
                return mixed
        moved = any(not torch.equal(after[name], value) for name, value in buffers.items())
        return mixed if moved or not _close(apart, together) else None

    def initial_values(self) -> tuple[Tensors, Tensors]:
        """Return the module's trained parameters themselves, and copies of its buffers.

        What is computed in the backward pass (a checkpoint) reads the module's own.
        """
        return dict(self._parameters), {name: b.data.clone() for name, b in self._buffers.items()}

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, *, training: bool, seed: int = 0
    ) -> tuple[Tensor, Tensors]:
        """Return the output for `x`, [B, …] or with stacked tensors [N, B, …], and the new buffers; what is sampled in training has a `seed`."""
        if self._mode is not training:  # the root's own flag may not be that of the modules within
            self.module.train(training)
            self._mode = training
        parameters = {name: parameters[name] for name in self._parameters}
        buffers = {name: buffers[name] for name in self._buffers}
        with torch_seeded(seed, x.device) if training and x.dim() < 3 else nullcontext():
            y, after = called(self.module, parameters, buffers, x)
        if x.dim() < 3 and torch.is_grad_enabled():
            for name, own in self._buffers.items():
                own.data = after[name].data
        return y, after


_obstacles: dict[Hashable, tuple[object, str | None]] = {}


def _perturbed(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Parameters near a module's own, as a last layer may begin at zero, and its buffers; zeros for those without memory."""
    parameters, buffers = (
        {name: torch.zeros_like(t, device="cpu") if t.is_meta else t.data for name, t in tensors.items()}
        for tensors in (parameters_of(module), buffers_of(module))
    )
    return {name: p + 0.1 * torch.randn_like(p) for name, p in parameters.items()}, buffers


def _close(actual: Tensor, expected: Tensor) -> bool:
    if actual.shape != expected.shape or not expected.numel():
        return actual.shape == expected.shape
    largest = float(expected.abs().double().nan_to_num(0, 0).amax())
    return torch.allclose(
        actual.double(), expected.double(), 0, _TOLERANCE * max(largest, 0.1), equal_nan=True
    )
