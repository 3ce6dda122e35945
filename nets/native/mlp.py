"""Stacked MLPs computed one after the other by the native kernel: forward pass, gradients, optimiser step.

The operators are registered as `torch.ops.antiphon.stacked_mlp…`, for the CPU. Shapes: N networks, B rows of each, I
inputs and O outputs of a layer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.layers import EPSILON, MOMENTUM
from antiphon.nets.native.library import kernel
from antiphon.nets.optimisers import StackedOptimiser

__all__ = ["ACTIVATIONS", "NORMS", "Evaluation", "Layer", "StackedMlp"]

NORMS = ("none", "layer", "batch")
ACTIVATIONS = ("identity", "relu", "tanh")
_KINDS = ("sgd", "adam", "adamw")
_PER_LAYER = 15
"""Pointers of a layer (`Tensors` in mlp.cpp)."""
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class Layer:
    """A layer: linear map, normalisation, activation.

    Attributes:
        source: The layer whose output it reads, by place; -1: the input.
        inputs: I.
        outputs: O.
        norm: One of `NORMS`.
        activation: One of `ACTIVATIONS`.
    """

    source: int
    inputs: int
    outputs: int
    norm: str = "none"
    activation: str = "identity"

    def numbers(self) -> list[int]:
        """Return it as the operators take it."""
        return [
            self.source,
            self.inputs,
            self.outputs,
            NORMS.index(self.norm),
            ACTIVATIONS.index(self.activation),
        ]


# --- operators -----------------------------------------------------------------------------------------------

_LIBRARY: Any = torch.library.Library("antiphon", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define("stacked_mlp(int[] layers, Tensor x, Tensor[] parameters, Tensor[] statistics) -> Tensor[]")
_LIBRARY.define(
    "stacked_mlp_backward(int[] layers, Tensor x, Tensor[] parameters, Tensor[] kept, Tensor?[] given, bool input) "
    "-> Tensor[]"
)
_LIBRARY.define(
    "stacked_mlp_gradients(int[] layers, Tensor x, Tensor[] kept, Tensor[] back, Tensor(a!)[] gradients) -> ()"
)
_LIBRARY.define(
    "stacked_mlp_step(int[] layers, Tensor x, Tensor[] kept, Tensor[] back, Tensor(a!)[] parameters, "
    "Tensor(b!)[] first, Tensor(c!)[] second, Tensor(d!)? steps, Tensor? members, str kind, float[] settings) -> ()"
)


class _Tables:
    """The pointers of the kernel's `Tensors`, by layer."""

    FIELDS = (
        *("weight", "bias", "gain", "shift", "mean", "var", "new_mean", "new_var"),
        *("output", "unit", "inverse", "given", "back", "of_gain", "of_shift"),
    )

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        self.count = len(layers) // 5
        self.pointers = [0] * (_PER_LAYER * self.count)
        self.normed = [layers[5 * i + 3] for i in range(self.count)]

    def put(self, layer: int, field: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            self.pointers[_PER_LAYER * layer + self.FIELDS.index(field)] = tensor.data_ptr()

    def put_parameters(self, parameters: Sequence[Tensor]) -> None:
        given = iter(parameters)
        for i in range(self.count):
            for field in self.FIELDS[: 4 if self.normed[i] else 2]:
                self.put(i, field, next(given))

    def put_kept(self, kept: Sequence[Tensor]) -> None:
        given = iter(kept)
        for i in range(self.count):
            for field in ("output", "unit", "inverse") if self.normed[i] else ("output",):
                self.put(i, field, next(given))

    def put_back(self, back: Sequence[Tensor]) -> None:
        """Gradients of the maps' results; an empty one stands for none."""
        given = iter(back)
        for i in range(self.count):
            for field in ("back", "of_gain", "of_shift") if self.normed[i] else ("back",):
                tensor = next(given)
                self.put(i, field, tensor if tensor.numel() else None)

    def call(self, name: str, x: Tensor, networks: int, *rest: object) -> None:
        library = kernel()
        assert library is not None
        numbers = (ctypes.c_int64 * len(self.layers))(*self.layers)
        pointers = _pointers(self.pointers)
        function = getattr(library, f"antiphon_{name}_{_NAMES[x.dtype]}")
        size = ctypes.c_int64
        function(
            *(size(networks), size(len(x) // networks), size(self.count), numbers, pointers, _pointer(x)),
            *rest,
            size(torch.get_num_threads()),
        )


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(0 if tensor is None else tensor.data_ptr())


def _pointers(values: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(values))(*values)


def _forward(
    layers: Sequence[int], x: Tensor, parameters: Sequence[Tensor], statistics: Sequence[Tensor]
) -> list[Tensor]:
    tables = _Tables(layers)
    tables.put_parameters(parameters)
    networks, kept, moved = len(parameters[0]), [], []
    running = iter(statistics)
    for i in range(tables.count):
        outputs, norm = layers[5 * i + 2], tables.normed[i]
        own = [x.new_empty(len(x), outputs)]
        if norm:
            own.append(x.new_empty(len(x), outputs))
            own.append(x.new_empty(len(x)) if NORMS[norm] == "layer" else x.new_empty(networks, outputs))
        for field, tensor in zip(("output", "unit", "inverse"), own, strict=False):
            tables.put(i, field, tensor)
        kept += own
        if NORMS[norm] == "batch":
            before = next(running), next(running)
            after = [torch.empty_like(statistic) for statistic in before]
            for field, tensor in zip(("mean", "var", "new_mean", "new_var"), (*before, *after), strict=True):
                tables.put(i, field, tensor)
            moved += after
    tables.call("forward", x, networks, ctypes.c_double(EPSILON), ctypes.c_double(MOMENTUM))
    return kept + moved


def _backward(
    layers: Sequence[int],
    x: Tensor,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    given: Sequence[Tensor | None],
    input: bool,
) -> list[Tensor]:
    tables = _Tables(layers)
    tables.put_parameters(parameters)
    tables.put_kept(kept)
    networks, found = len(parameters[0]), []
    reached = [gradient is not None for gradient in given]
    for i in reversed(range(tables.count)):
        if reached[i] and layers[5 * i] >= 0:
            reached[layers[5 * i]] = True
    for i, gradient in enumerate(given):
        outputs = layers[5 * i + 2]
        read = any(layers[5 * j] == i for j in range(tables.count))
        if gradient is not None and not tables.normed[i] and not read and not layers[5 * i + 4]:
            own = [gradient]  # it is that of the map's result
        else:
            own = [x.new_empty(len(x) if reached[i] else 0, outputs)]
        own += [
            x.new_empty(networks if reached[i] else 0, outputs) for _ in range(2 if tables.normed[i] else 0)
        ]
        tables.put(i, "given", gradient)
        for field, tensor in zip(("back", "of_gain", "of_shift"), own, strict=False):
            tables.put(i, field, tensor)
        found += own
    of_x = torch.empty_like(x) if input else x.new_empty(0)
    bounds = x.new_empty(networks, dtype=torch.float64)
    tables.call("backward", x, networks, _pointer(of_x if input else None), _pointer(bounds))
    return [of_x, bounds, *found]


def _targets(layers: Sequence[int], *columns: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Four columns of pointers by parameter: gradient, parameter, first and second moment; four parameters to a layer."""
    found: list[int] = []
    each = [iter(column) for column in columns]
    for i in range(len(layers) // 5):
        own = 4 if layers[5 * i + 3] else 2
        for place in range(4):
            tensors = [next(column, None) if place < own else None for column in each]
            found += [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    return _pointers(found)


def _gradients(
    layers: Sequence[int],
    x: Tensor,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> None:
    tables = _Tables(layers)
    tables.put_kept(kept)
    tables.put_back(back)
    settings = (ctypes.c_double * 6)()
    tables.call(
        *("update", x, len(gradients[0]), _targets(layers, gradients, (), (), ())),
        *(_pointer(None), _pointer(None), ctypes.c_int64(0), settings),
    )


def _step(
    layers: Sequence[int],
    x: Tensor,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    parameters: Sequence[Tensor],
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    steps: Tensor | None,
    members: Tensor | None,
    kind: str,
    settings: Sequence[float],
) -> None:
    tables = _Tables(layers)
    tables.put_kept(kept)
    tables.put_back(back)
    numbers = (ctypes.c_double * len(settings))(*settings)
    tables.call(
        *("update", x, len(parameters[0]), _targets(layers, (), parameters, first, second)),
        *(_pointer(members), _pointer(steps), ctypes.c_int64(_KINDS.index(kind)), numbers),
    )


_LIBRARY.impl("stacked_mlp", _forward, "CPU")
_LIBRARY.impl("stacked_mlp_backward", _backward, "CPU")
_LIBRARY.impl("stacked_mlp_gradients", _gradients, "CPU")
_LIBRARY.impl("stacked_mlp_step", _step, "CPU")


# --- networks ------------------------------------------------------------------------------------------------


class StackedMlp:
    """N MLPs of one kind.

    Args:
        layers: Each reads the input or an earlier one.
        parameters: Of each layer in turn weight [N, O, I] and bias [N, O], and gain and bias [N, O] of its
            normalisation; contiguous, changed in place by `Evaluation.step`.
    """

    def __init__(self, layers: Sequence[Layer], parameters: Sequence[Tensor]) -> None:
        self.layers, self.parameters = list(layers), [p.data for p in parameters]
        self.numbers = [number for layer in layers for number in layer.numbers()]

    @torch.no_grad()
    def __call__(self, x: Tensor, statistics: Sequence[Tensor]) -> Evaluation:
        """Evaluate the networks.

        Args:
            x: [N * B, I].
            statistics: Running mean and variance [N, O] of each layer with batch norm in turn.
        """
        x = x.contiguous()
        found = torch.ops.antiphon.stacked_mlp(self.numbers, x, self.parameters, list(statistics))
        kept = len(found) - len(statistics)
        return Evaluation(self, x, found[:kept], found[kept:])

    @torch.no_grad()
    def gradients_of(self, x: Tensor, given: Tensor) -> list[Tensor]:
        """Return the gradients of weight and bias of networks of one linear map, [N, …] each.

        Args:
            x: [N * B, I].
            given: Gradient of the output, [N * B, O].
        """
        found = [torch.empty_like(p) for p in self.parameters]
        given = given.contiguous()
        torch.ops.antiphon.stacked_mlp_gradients(self.numbers, x.contiguous(), [given], [given], found)
        return found


class Evaluation:
    """One evaluation of N networks, and what its gradients are made from.

    Args:
        network: The networks.
        x: Their input, [N * B, I].
        kept: Outputs of the layers, and what their normalisations keep.
        statistics: Running statistics after it.
    """

    def __init__(self, network: StackedMlp, x: Tensor, kept: list[Tensor], statistics: list[Tensor]) -> None:
        self.network, self.x, self._kept, self.statistics = network, x, kept, statistics
        self.outputs: list[Tensor] = []
        """Of each layer, [N * B, O]."""
        place = 0
        for layer in network.layers:
            self.outputs.append(kept[place])
            place += 1 if layer.norm == "none" else 3
        self._back: list[Tensor] = []

    @torch.no_grad()
    def backward(self, given: Sequence[Tensor | None], *, input: bool) -> tuple[Tensor | None, Tensor]:
        """Differentiate by the maps' results, of which `gradients` and `step` make those of the parameters.

        Args:
            given: Gradient of each layer's output, [N * B, O]; None: none beside what reaches it through others.
            input: Whether that of the input is wanted.

        Returns:
            B times the gradient of the input, [N * B, I], and by network, [N] float64, a bound of the magnitude of all
            gradients; it is not finite where one of them might not be.
        """
        given = [None if g is None else g.contiguous() for g in given]
        of_x, bounds, *self._back = torch.ops.antiphon.stacked_mlp_backward(
            self.network.numbers, self.x, self.network.parameters, self._kept, given, input
        )
        return of_x if input else None, bounds

    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters, [N, …] each; they do not depend on what parameters are now."""
        found = [torch.empty_like(p) for p in self.network.parameters]
        torch.ops.antiphon.stacked_mlp_gradients(self.network.numbers, self.x, self._kept, self._back, found)
        return found

    def step(self, optimiser: StackedOptimiser, rate: float, members: Tensor | None) -> None:
        """Take the optimiser's step along the gradients, which are never written to memory.

        Args:
            optimiser: Of the parameters, without clipping.
            rate: The learning rate.
            members: [N] bool, the networks that take it; None: all.
        """
        optimiser.count(members)
        moments = [optimiser.state[name] for name in optimiser.moments]
        moments += [[]] * (2 - len(moments))
        torch.ops.antiphon.stacked_mlp_step(
            *(self.network.numbers, self.x, self._kept, self._back, self.network.parameters, *moments),
            optimiser.state["steps"][0] if "steps" in optimiser.state else None,
            members,
            optimiser.kind,
            [rate, *optimiser.betas, optimiser.weight_decay, optimiser.momentum, optimiser.EPSILON],
        )
