"""Stacked MLPs computed one after the other by the native kernel: forward pass, gradients, optimiser step.

The operators are registered as `torch.ops.antiphon.stacked_mlp…`, for the CPU. Shapes: N networks, B rows of each, I
inputs and O outputs of a layer, P tensors that a block of inputs is read from.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from antiphon.nets.layers import EPSILON, MOMENTUM
from antiphon.nets.native.library import address, function
from antiphon.nets.optimisers import Skip, StackedOptimiser

__all__ = ["ACTIVATIONS", "NORMS", "Block", "Evaluation", "KernelGradients", "Layer", "StackedMlp", "bounded"]

NORMS = ("none", "layer", "batch")
ACTIVATIONS = ("identity", "relu", "tanh")
_KINDS = ("sgd", "adam", "adamw")
_FINITE = 1e30


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
_INPUT = "Tensor[] blocks, Tensor?[] indices, int[] slots, int rows"
_LIBRARY.define(f"stacked_mlp(int[] layers, {_INPUT}, Tensor[] parameters, Tensor[] statistics) -> Tensor[]")
_LIBRARY.define(
    f"stacked_mlp_backward(int[] layers, {_INPUT}, Tensor[] parameters, Tensor[] kept, Tensor?[] given, bool[] wanted) "
    "-> Tensor[]"
)
_LIBRARY.define(
    f"stacked_mlp_gradients(int[] layers, {_INPUT}, Tensor[] kept, Tensor[] back, Tensor(a!)[] gradients) -> ()"
)
_LIBRARY.define(
    f"stacked_mlp_step(int[] layers, {_INPUT}, Tensor[] kept, Tensor[] back, Tensor(a!)[] parameters, "
    "Tensor(b!)[] first, Tensor(c!)[] second, Tensor(d!)? steps, Tensor? members, str kind, float[] settings) -> ()"
)


class _Call(ctypes.Structure):
    """`Call` in mlp.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("networks", "rows", "layers", "blocks", "threads")),
        *((name, ctypes.c_void_p) for name in ("numbers", "tensors", "input")),
    )


class _Block(ctypes.Structure):
    """`Block` in mlp.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("slots", "columns", "stride")),
        *((name, ctypes.c_void_p) for name in ("data", "back", "index")),
    )


Input = tuple[Sequence[Tensor], Sequence[Tensor | None], Sequence[int], int]
"""The input of the operators: blocks [P * B, columns], their indices and slots, and B."""

_FIELDS = (
    *("weight", "bias", "gain", "shift", "mean", "var", "new_mean", "new_var"),
    *("output", "unit", "inverse", "given", "back", "of_gain", "of_shift"),
)
"""Of `Tensors` in mlp.cpp."""


class _Form:
    """Some layers as the kernel takes them, and where its table of `Tensors` has those of them.

    Args:
        layers: As `Layer.numbers`, one after the other.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.count = len(layers) // 5
        self.sources, self.outputs = layers[::5], layers[2::5]
        self.norms = [NORMS[norm] for norm in layers[3::5]]
        self.linear = [not activation for activation in layers[4::5]]
        self.numbers = (ctypes.c_int64 * len(layers))(*layers)
        self.parameters = self._places(_FIELDS[:2], _FIELDS[2:4])
        self.kept = self._places(("output",), ("unit", "inverse"))
        self.back = self._places(("back",), ("of_gain", "of_shift"))
        self.given = self._places(("given",), ())

    def _places(self, fields: Sequence[str], normed: Sequence[str]) -> list[int]:
        """Of these fields, and of some that normalised layers have, of each layer in turn."""
        return [
            len(_FIELDS) * i + _FIELDS.index(field)
            for i, norm in enumerate(self.norms)
            for field in (*fields, *(() if norm == "none" else normed))
        ]

    def statistics(self, fields: Sequence[str]) -> list[int]:
        """Those of the layers with batch norm."""
        return [
            len(_FIELDS) * i + _FIELDS.index(field)
            for i, norm in enumerate(self.norms)
            if norm == "batch"
            for field in fields
        ]

    def table(self, *columns: tuple[Sequence[int], Sequence[Tensor | None]]) -> Any:
        """Return a table with tensors at places."""
        pointers = (ctypes.c_void_p * (len(_FIELDS) * self.count))()
        for places, tensors in columns:
            for place, tensor in zip(places, tensors, strict=True):
                if tensor is not None and tensor.numel():
                    pointers[place] = tensor.data_ptr()
        return pointers

    def call(
        self, name: str, input: Input, networks: int, table: Any, *rest: object, back: Sequence[Tensor] = ()
    ) -> None:
        """Call a function of the kernel; `back`: where gradients of the blocks are written, or empty ones."""
        blocks, indices, slots, rows = input
        own = [
            _Block(
                *(count, block.shape[1], 0 if len(block) == rows else rows * block.shape[1]),
                *(block.data_ptr(), back[i].data_ptr() if back else 0, address(index)),
            )
            for i, (block, index, count) in enumerate(zip(blocks, indices, slots, strict=True))
        ]
        array = (_Block * len(blocks))(*own)
        call = _Call(
            *(networks, rows, self.count, len(blocks), torch.get_num_threads()),
            *(ctypes.addressof(each) for each in (self.numbers, table, array)),
        )
        function(name, blocks[0].dtype)(ctypes.byref(call), *rest)


_forms: dict[tuple[int, ...], _Form] = {}


def _form(layers: Sequence[int]) -> _Form:
    key = tuple(layers)
    if key not in _forms:
        _forms[key] = _Form(key)
    return _forms[key]


def _forward(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    rows: int,
    parameters: Sequence[Tensor],
    statistics: Sequence[Tensor],
) -> list[Tensor]:
    form, networks, kept = _form(layers), len(parameters[0]), []
    new = blocks[0].new_empty
    for outputs, norm in zip(form.outputs, form.norms, strict=True):
        kept.append(new(networks * rows, outputs))
        if norm != "none":
            kept += [
                new(networks * rows, outputs),
                new(networks * rows) if norm == "layer" else new(networks, outputs),
            ]
    after = [torch.empty_like(statistic) for statistic in statistics]
    table = form.table((form.parameters, parameters), (form.kept, kept))
    if after:
        for fields, tensors in ((("mean", "var"), statistics), (("new_mean", "new_var"), after)):
            for place, tensor in zip(form.statistics(fields), tensors, strict=True):
                table[place] = tensor.data_ptr()
    settings = ctypes.c_double(EPSILON), ctypes.c_double(MOMENTUM)
    form.call("forward", (blocks, indices, slots, rows), networks, table, *settings)
    return kept + after


def _backward(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    rows: int,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    given: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor]:
    form, networks, found = _form(layers), len(parameters[0]), []
    new = blocks[0].new_empty
    reached = [gradient is not None for gradient in given]
    for i in reversed(range(form.count)):
        if reached[i] and form.sources[i] >= 0:
            reached[form.sources[i]] = True
    for i, (gradient, outputs, norm) in enumerate(zip(given, form.outputs, form.norms, strict=True)):
        if gradient is not None and norm == "none" and form.linear[i] and i not in form.sources:
            found.append(gradient)  # it is that of the map's result
        else:
            found.append(new(networks * rows if reached[i] else 0, outputs))
        if norm != "none":
            found += [new(networks if reached[i] else 0, outputs) for _ in range(2)]
    back = [
        _gradient_like(block, index, rows) if want else new(0)
        for block, index, want in zip(blocks, indices, wanted, strict=True)
    ]
    bounds = new(networks, dtype=torch.float64)
    columns = (form.parameters, parameters), (form.kept, kept), (form.given, given), (form.back, found)
    pointer = ctypes.c_void_p(bounds.data_ptr())
    form.call("backward", (blocks, indices, slots, rows), networks, form.table(*columns), pointer, back=back)
    return [bounds, *back, *found]


def _gradient_like(block: Tensor, index: Tensor | None, rows: int) -> Tensor:
    """Memory for the gradient of a block: zeros where some of it is not read."""
    read = index is None or len(index) * rows == len(block)
    return torch.empty_like(block) if read else torch.zeros_like(block)


def _targets(form: _Form, *columns: Sequence[Tensor]) -> Any:
    """Four columns of pointers by parameter: gradient, parameter, first and second moment; four parameters to a layer."""
    found = (ctypes.c_void_p * (16 * form.count))()
    places = [4 * i + k for i, norm in enumerate(form.norms) for k in range(2 if norm == "none" else 4)]
    for column, tensors in enumerate(columns):
        for place, tensor in zip(places, tensors, strict=False):
            found[4 * place + column] = tensor.data_ptr()
    return found


def _gradients(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    rows: int,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> None:
    form = _form(layers)
    table = form.table((form.kept, kept), (form.back, back))
    rest = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int64(0), (ctypes.c_double * 6)()
    targets = _targets(form, gradients)
    form.call("update", (blocks, indices, slots, rows), len(gradients[0]), table, targets, *rest)


def _step(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    rows: int,
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
    form = _form(layers)
    table = form.table((form.kept, kept), (form.back, back))
    masks = ctypes.c_void_p(address(members)), ctypes.c_void_p(address(steps))
    rest = *masks, ctypes.c_int64(_KINDS.index(kind)), (ctypes.c_double * len(settings))(*settings)
    targets = _targets(form, (), parameters, first, second)
    form.call("update", (blocks, indices, slots, rows), len(parameters[0]), table, targets, *rest)


_LIBRARY.impl("stacked_mlp", _forward, "CPU")
_LIBRARY.impl("stacked_mlp_backward", _backward, "CPU")
_LIBRARY.impl("stacked_mlp_gradients", _gradients, "CPU")
_LIBRARY.impl("stacked_mlp_step", _step, "CPU")


# --- networks ------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Some columns of an input, where they lie."""

    rows: Tensor
    """[P * B, columns]: P tensors [B, columns]; where there is one, all networks read it."""
    places: Tensor | None = None
    """[N * slots]: those that the networks read side by side, each once; None: each in turn."""
    slots: int = 1
    """How many each network reads."""


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

    def __call__(self, blocks: Sequence[Block], batch: int, statistics: Sequence[Tensor]) -> Evaluation:
        """Evaluate the networks, without autograd.

        Args:
            blocks: Of their input, [N * B, I] together.
            batch: B.
            statistics: Running mean and variance [N, O] of each layer with batch norm in turn.
        """
        input = _input(blocks, batch)
        found = torch.ops.antiphon.stacked_mlp(self.numbers, *input, self.parameters, statistics)
        kept = len(found) - len(statistics)
        return Evaluation(self, input, found[:kept], found[kept:])


def _input(blocks: Sequence[Block], batch: int) -> Input:
    return (
        [block.rows.data.contiguous() for block in blocks],
        [block.places for block in blocks],
        [block.slots for block in blocks],
        batch,
    )


class Evaluation:
    """One evaluation of N networks, and what its gradients are made from.

    Args:
        network: The networks.
        input: Theirs.
        kept: Outputs of the layers, and what their normalisations keep.
        statistics: Running statistics after it.
    """

    def __init__(
        self, network: StackedMlp, input: Input, kept: Sequence[Tensor], statistics: Sequence[Tensor]
    ) -> None:
        self.network, self.input, self._kept, self.statistics = network, input, kept, statistics
        self.outputs: list[Tensor] = []
        """Of each layer, [N * B, O]."""
        place = 0
        for layer in network.layers:
            self.outputs.append(kept[place])
            place += 1 if layer.norm == "none" else 3
        self._back: list[Tensor] = []

    def backward(
        self, given: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> tuple[list[Tensor | None], Tensor]:
        """Differentiate by the maps' results, of which `gradients` and `step` make those of the parameters.

        Args:
            given: Gradient of each layer's output, [N * B, O]; None: none beside what reaches it through others.
            wanted: Of which blocks of the input gradients are.

        Returns:
            B times the gradients of the wanted blocks, as these are, None of others; and by network, [N] float64, a bound of
            the magnitude of all gradients, which is not finite where one of them might not be.
        """
        given = [None if g is None else g.contiguous() for g in given]
        bounds, *found = torch.ops.antiphon.stacked_mlp_backward(
            self.network.numbers, *self.input, self.network.parameters, self._kept, given, wanted
        )
        self._back = found[len(wanted) :]
        return [one if want else None for one, want in zip(found, wanted, strict=False)], bounds

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters, [N, …] each; they do not depend on what parameters are now."""
        found = [torch.empty_like(p) for p in self.network.parameters]
        torch.ops.antiphon.stacked_mlp_gradients(
            self.network.numbers, *self.input, self._kept, self._back, found
        )
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
            *(self.network.numbers, *self.input, self._kept, self._back, self.network.parameters, *moments),
            optimiser.state["steps"][0] if "steps" in optimiser.state else None,
            members,
            optimiser.kind,
            [rate, *optimiser.betas, optimiser.weight_decay, optimiser.momentum, optimiser.EPSILON],
        )


def bounded(bounds: Tensor) -> bool:
    """Whether the bounds of `Evaluation.backward` show that all gradients are finite, in float32 too."""
    return float(bounds.max()) < _FINITE


class KernelGradients(Sequence[Tensor]):
    """The gradients of the parameters of N networks, [N, …] each, made when they are read.

    Args:
        evaluation: What they are made from; it has been differentiated.
        finite: Whether all of them are known to be finite.
    """

    def __init__(self, evaluation: Evaluation, *, finite: bool) -> None:
        self._evaluation = evaluation
        self.finite = finite
        self._made: list[Tensor] | None = None

    @classmethod
    def of_map(cls, network: StackedMlp, x: Tensor, error: Tensor) -> KernelGradients:
        """Return those of networks of one linear map.

        Args:
            network: The networks.
            x: Their input, [N, B, I].
            error: The gradient of their output, [N, B, O].
        """
        evaluation = Evaluation(network, _input([Block(x.flatten(0, 1))], x.shape[1]), [error], [])
        _, bounds = evaluation.backward([error.flatten(0, 1)], [False])
        return cls(evaluation, finite=bounded(bounds))

    def __len__(self) -> int:
        return len(self._evaluation.network.parameters)

    @overload
    def __getitem__(self, place: int) -> Tensor: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Tensor]: ...

    def __getitem__(self, place: int | slice) -> Tensor | Sequence[Tensor]:
        if self._made is None:
            self._made = self._evaluation.gradients()
        return self._made[place]

    def step(
        self, optimiser: StackedOptimiser, rate: float | Tensor, members: Tensor | None, skip: Skip | None
    ) -> None:
        """Take the optimiser's step along them; arguments as of its own `step`."""
        if self._made is None and optimiser.clip is None and skip is None and isinstance(rate, float):
            self._evaluation.step(optimiser, rate, members)
        else:
            optimiser.step(self[:], rate, members, skip=skip)
