"""Stacked MLPs computed one after the other by the native kernel: forward pass, gradients, optimiser step.

The operators are registered as `torch.ops.antiphon.stacked_mlp…`, for the CPU. Shapes: N networks, B rows of each, I
inputs and O outputs of a layer, P tensors that a block of inputs is read from.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, overload

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
_PER_LAYER = 15
"""Pointers of a layer (`Tensors` in mlp.cpp)."""


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
_INPUT = "Tensor[] blocks, Tensor?[] indices, int[] slots"
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
        *((name, ctypes.c_int64) for name in ("networks", "rows", "layers", "blocks")),
        *(
            (name, ctypes.c_void_p)
            for name in ("layer_numbers", "block_numbers", "tensors", "block_pointers")
        ),
        ("threads", ctypes.c_int64),
    )


Input = tuple[Sequence[Tensor], Sequence[Tensor | None], Sequence[int]]
"""The input of the operators: blocks [P, B, columns], their indices and slots."""


class _Tables:
    """The pointers of the kernel's `Tensors`, by layer."""

    FIELDS = (
        *("weight", "bias", "gain", "shift", "mean", "var", "new_mean", "new_var"),
        *("output", "unit", "inverse", "given", "back", "of_gain", "of_shift"),
    )
    PLACES: ClassVar = {field: place for place, field in enumerate(FIELDS)}

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = layers
        self.count = len(layers) // 5
        self.pointers = [0] * (_PER_LAYER * self.count)
        self.normed = layers[3::5]

    def put(self, layer: int, field: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            self.pointers[_PER_LAYER * layer + self.PLACES[field]] = tensor.data_ptr()

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

    def call(
        self, name: str, input: Input, networks: int, *rest: object, back: Sequence[Tensor | None] = ()
    ) -> None:
        """Call a function of the kernel; `back`: where gradients of the blocks are written."""
        blocks, indices, slots = input
        numbers, pointers = [], []
        for block, index, own, of_block in zip(
            blocks, indices, slots, back or [None] * len(blocks), strict=True
        ):
            numbers += [own, block.shape[2], block.stride(0)]
            pointers += [address(block), address(of_block), address(index)]
        arrays = _numbers(self.layers), _numbers(numbers), _pointers(self.pointers), _pointers(pointers)
        call = _Call(
            *(networks, blocks[0].shape[1], self.count, len(blocks)),
            *map(ctypes.addressof, arrays),
            torch.get_num_threads(),
        )
        function(name, blocks[0].dtype)(ctypes.byref(call), *rest)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(address(tensor))


def _pointers(values: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(values))(*values)


def _numbers(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    return (ctypes.c_int64 * len(values))(*values)


def _forward(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    parameters: Sequence[Tensor],
    statistics: Sequence[Tensor],
) -> list[Tensor]:
    tables = _Tables(layers)
    tables.put_parameters(parameters)
    networks, rows, kept, moved = len(parameters[0]), blocks[0].shape[1], [], []
    like, running = blocks[0], iter(statistics)
    for i in range(tables.count):
        outputs, norm = layers[5 * i + 2], tables.normed[i]
        own = [like.new_empty(networks * rows, outputs)]
        if norm:
            own.append(torch.empty_like(own[0]))
            own.append(
                like.new_empty(networks * rows)
                if NORMS[norm] == "layer"
                else like.new_empty(networks, outputs)
            )
        for field, tensor in zip(("output", "unit", "inverse"), own, strict=False):
            tables.put(i, field, tensor)
        kept += own
        if NORMS[norm] == "batch":
            before = next(running), next(running)
            after = [torch.empty_like(statistic) for statistic in before]
            for field, tensor in zip(("mean", "var", "new_mean", "new_var"), (*before, *after), strict=True):
                tables.put(i, field, tensor)
            moved += after
    input = blocks, indices, slots
    tables.call("forward", input, networks, ctypes.c_double(EPSILON), ctypes.c_double(MOMENTUM))
    return kept + moved


def _backward(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    given: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor]:
    tables = _Tables(layers)
    tables.put_parameters(parameters)
    tables.put_kept(kept)
    like, networks, found = blocks[0], len(parameters[0]), []
    rows = networks * like.shape[1]
    reached = [gradient is not None for gradient in given]
    for i in reversed(range(tables.count)):
        if reached[i] and layers[5 * i] >= 0:
            reached[layers[5 * i]] = True
    for i, gradient in enumerate(given):
        outputs = layers[5 * i + 2]
        read = i in layers[::5]
        if gradient is not None and not tables.normed[i] and not read and not layers[5 * i + 4]:
            own = [gradient]  # it is that of the map's result
        else:
            own = [like.new_empty(rows if reached[i] else 0, outputs)]
        own += [
            like.new_empty(networks if reached[i] else 0, outputs)
            for _ in range(2 if tables.normed[i] else 0)
        ]
        tables.put(i, "given", gradient)
        for field, tensor in zip(("back", "of_gain", "of_shift"), own, strict=False):
            tables.put(i, field, tensor)
        found += own
    of_blocks = [
        _gradient_like(block, index) if want else like.new_empty(0)
        for block, index, want in zip(blocks, indices, wanted, strict=True)
    ]
    bounds = like.new_empty(networks, dtype=torch.float64)
    back = [one if want else None for one, want in zip(of_blocks, wanted, strict=True)]
    tables.call("backward", (blocks, indices, slots), networks, _pointer(bounds), back=back)
    return [bounds, *of_blocks, *found]


def _gradient_like(block: Tensor, index: Tensor | None) -> Tensor:
    """Memory for the gradient of a block: zeros where some of it is not read."""
    read = index is None or len(index) == len(block)
    return torch.empty_like(block) if read else torch.zeros_like(block)


def _targets(layers: Sequence[int], *columns: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Four columns of pointers by parameter: gradient, parameter, first and second moment; four parameters to a layer."""
    found: list[int] = []
    each = [iter(column) for column in columns]
    for norm in layers[3::5]:
        for _ in range(4 if norm else 2):
            found += [address(next(column, None)) for column in each]
        found += [] if norm else [0] * 8
    return _pointers(found)


def _gradients(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    gradients: Sequence[Tensor],
) -> None:
    tables = _Tables(layers)
    tables.put_kept(kept)
    tables.put_back(back)
    tables.call(
        *("update", (blocks, indices, slots), len(gradients[0]), _targets(layers, gradients, (), (), ())),
        *(_pointer(None), _pointer(None), ctypes.c_int64(0), (ctypes.c_double * 6)()),
    )


def _step(
    layers: Sequence[int],
    blocks: Sequence[Tensor],
    indices: Sequence[Tensor | None],
    slots: Sequence[int],
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
    targets = _targets(layers, (), parameters, first, second)
    tables.call(
        *("update", (blocks, indices, slots), len(parameters[0]), targets),
        *(_pointer(members), _pointer(steps), ctypes.c_int64(_KINDS.index(kind)), numbers),
    )


_LIBRARY.impl("stacked_mlp", _forward, "CPU")
_LIBRARY.impl("stacked_mlp_backward", _backward, "CPU")
_LIBRARY.impl("stacked_mlp_gradients", _gradients, "CPU")
_LIBRARY.impl("stacked_mlp_step", _step, "CPU")


# --- networks ------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """Some columns of an input, where they lie."""

    values: Tensor
    """[P, B, columns]; of networks that all read the same the first axis may be expanded."""
    index: Tensor | None = None
    """[N * slots]: the places that the networks read side by side, each once; None: each in turn."""
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

    @torch.no_grad()
    def __call__(self, blocks: Sequence[Block], statistics: Sequence[Tensor]) -> Evaluation:
        """Evaluate the networks.

        Args:
            blocks: Of their input, [N, B, I] together.
            statistics: Running mean and variance [N, O] of each layer with batch norm in turn.
        """
        input = _input(blocks)
        found = torch.ops.antiphon.stacked_mlp(self.numbers, *input, self.parameters, statistics)
        kept = len(found) - len(statistics)
        return Evaluation(self, input, found[:kept], found[kept:])


def _input(blocks: Sequence[Block]) -> Input:
    return (
        [_in_rows(block.values.detach()) for block in blocks],
        [block.index for block in blocks],
        [block.slots for block in blocks],
    )


def _in_rows(values: Tensor) -> Tensor:
    """Make each [B, columns] contiguous."""
    return values if values.stride()[1:] == (values.shape[2], 1) else values.contiguous()


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

    @torch.no_grad()
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

    @torch.no_grad()
    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters, [N, …] each; they do not depend on what parameters are now."""
        found = [torch.empty_like(p) for p in self.network.parameters]
        torch.ops.antiphon.stacked_mlp_gradients(
            self.network.numbers, *self.input, self._kept, self._back, found
        )
        return found

    @torch.no_grad()
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
        evaluation = Evaluation(network, _input([Block(x)]), [error], [])
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
