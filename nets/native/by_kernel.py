"""Layers of stacked MLPs, and calls of the native kernel: the tables of pointers that its functions take."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.nets.native.compiled_kernel import address, function

NORMS = ("none", "layer", "batch")
PARAMETERS = {"none": (0, 1), "layer": (0, 1, 2, 3), "batch": (0, 2, 3)}
"""By normalisation, which of weight, bias, gain and shift a layer has."""
ACTIVATIONS = ("identity", "relu", "tanh")


class Block(NamedTuple):
    """Some columns of an input, in place."""

    rows: Tensor
    """[P * B, columns]: P tensors [B, columns]; if there is one, all networks read it."""
    indices: Tensor | None = None
    """[N * slots]: the tensors that each network reads, side by side; None: in order."""
    slots: int = 1


@dataclass(frozen=True)
class Layer:
    """A layer: linear map, normalisation (of `NORMS`), activation (of `ACTIVATIONS`) of the output of layer `source`; -1: of the input."""

    source: int
    inputs: int
    outputs: int
    norm: str = "none"
    activation: str = "identity"


class _NativeCall(ctypes.Structure):
    """`Call` in mlp.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("networks", "rows", "layers", "blocks", "threads")),
        *((name, ctypes.c_void_p) for name in ("numbers", "tensors", "input")),
    )


class _NativeBlock(ctypes.Structure):
    """`Block` in mlp.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("slots", "columns", "stride")),
        *((name, ctypes.c_void_p) for name in ("data", "back", "index")),
    )


_FIELDS = (
    *("weight", "bias", "gain", "shift", "mean", "var", "new_mean", "new_var"),
    *("output", "unit", "inverse", "given", "back", "of_gain", "of_shift"),
)
"""Fields of `Tensors` in mlp.cpp."""


class Form:
    """Some layers in the kernel's format, and their places in its table of `Tensors`."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers, self.count = list(layers), len(layers)
        self.norms = [layer.norm for layer in layers]
        numbers = [
            number
            for layer in layers
            for number in (
                *(layer.source, layer.inputs, layer.outputs),
                *(NORMS.index(layer.norm), ACTIVATIONS.index(layer.activation)),
            )
        ]
        self.numbers = (ctypes.c_int64 * len(numbers))(*numbers)
        self.parameters = [
            len(_FIELDS) * i + k for i, norm in enumerate(self.norms) for k in PARAMETERS[norm]
        ]
        self.saved = self._indices("output", normed=("unit", "inverse"))
        self.back = self._indices("back", normed=("of_gain", "of_shift"))
        self.output_gradients = self._indices("given")
        self.before, self.after = (
            self._indices(of_batch=("mean", "var")),
            self._indices(of_batch=("new_mean", "new_var")),
        )

    def _indices(self, *fields: str, normed: Sequence[str] = (), of_batch: Sequence[str] = ()) -> list[int]:
        """Indices of these fields, and of some that normalised layers or those with batch norm have, of each layer in turn."""
        of_norm = {"none": fields, "layer": (*fields, *normed), "batch": (*fields, *normed, *of_batch)}
        return [
            len(_FIELDS) * i + _FIELDS.index(field)
            for i, norm in enumerate(self.norms)
            for field in of_norm[norm]
        ]

    def table(self, *columns: tuple[Sequence[int], Sequence[Tensor | None]]) -> Any:
        pointers = (ctypes.c_void_p * (len(_FIELDS) * self.count))()
        for indices, tensors in columns:
            for index, tensor in zip(indices, tensors, strict=True):
                if tensor is not None and tensor.numel():
                    pointers[index] = tensor.data_ptr()
        return pointers

    def call(
        self,
        name: str,
        blocks: Sequence[Block],
        batch: int,
        networks: int,
        table: Any,
        *rest: object,
        back: Sequence[Tensor] = (),
    ) -> None:
        """Call a function of the kernel; `back`: tensors for the gradients of the blocks, or empty ones."""
        structs = [
            _NativeBlock(
                *(slots, rows.shape[1], 0 if len(rows) == batch else batch * rows.shape[1]),
                *(rows.data_ptr(), back[i].data_ptr() if back else 0, address(indices)),
            )
            for i, (rows, indices, slots) in enumerate(blocks)
        ]
        array = (_NativeBlock * len(blocks))(*structs)
        call = _NativeCall(
            *(networks, batch, self.count, len(blocks), torch.get_num_threads()),
            *(ctypes.addressof(structure) for structure in (self.numbers, table, array)),
        )
        function(name, blocks[0].rows.dtype)(ctypes.byref(call), *rest)

    def targets(self, *columns: Sequence[Tensor]) -> Any:
        """Four columns of pointers by parameter: gradient, parameter, first and second moment; four parameters to a layer."""
        pointers = (ctypes.c_void_p * (16 * self.count))()
        indices = [4 * i + k for i, norm in enumerate(self.norms) for k in PARAMETERS[norm]]
        for column, tensors in enumerate(columns):
            for index, tensor in zip(indices, tensors, strict=False):
                pointers[4 * index + column] = tensor.data_ptr()
        return pointers
