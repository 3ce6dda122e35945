"""Stacked MLPs by the native kernel: forward pass, gradients, optimiser step.

The kernel computes one network after the other and is called directly: torch's dispatcher would take 60 to 100 µs per call.
For autograd `evaluate` is one function, whose parameter gradients are computed when they are read; `fused_step` uses
gradients that have not been read without writing them to memory.
Shapes: N networks, B rows of each, I inputs and O outputs of a layer, P tensors that a block of inputs is read from.
"""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils._pytree import tree_map_only

from antiphon.nets.layers import EPSILON, MOMENTUM
from antiphon.nets.native.by_kernel import PARAMETERS, Block, Form
from antiphon.nets.native.compiled_kernel import address
from antiphon.nets.optimisers import BETAS as ADAM_BETAS
from antiphon.nets.optimisers import EPSILON as ADAM_EPSILON
from antiphon.nets.stacked_optimiser import StackedOptimiser

_FINITE = 1e30
_KINDS = ("sgd", "adam", "adamw")


@dataclass(eq=False)
class MlpEvaluation:
    """One evaluation of N networks, and the tensors from which its gradients are computed."""

    form: Form
    parameters: Sequence[Tensor]
    blocks: Sequence[Block]
    batch: int
    saved: Sequence[Tensor]
    """Outputs of the layers, and what their normalisations keep."""
    outputs: Sequence[Tensor]
    reached: list[bool] = field(default_factory=list)
    """By parameter: whether the gradients that were given reach it."""
    back: list[Tensor] = field(default_factory=list)

    def backward(
        self, gradients: Sequence[Tensor | None], needed: Sequence[bool]
    ) -> tuple[list[Tensor | None], Tensor]:
        """Compute the gradients of the maps' outputs, from which `gradients` and `step` derive the parameters' gradients.

        Args:
            gradients: Gradient of each layer's output, [N * B, O]; None: only the gradient through other layers.

        Returns:
            The gradients of the needed blocks, in the blocks' shape, None for others; and by network, [N] float64, a
            bound of the magnitude of all gradients, which is not finite if one of them may not be finite.
        """
        gradients = [None if g is None else g.contiguous() for g in gradients]
        blocks, rows, parameters = self.blocks, self.batch, self.parameters
        networks, new = len(parameters[0]), blocks[0].rows.new_empty
        sources = [layer.source for layer in self.form.layers]
        reached = [gradient is not None for gradient in gradients]
        for i, source in reversed(list(enumerate(sources))):
            if reached[i] and source >= 0:
                reached[source] = True
        self.back, self.reached = [], []
        for i, (gradient, layer) in enumerate(zip(gradients, self.form.layers, strict=True)):
            linear = layer.norm == "none" and layer.activation == "identity"
            if gradient is not None and linear and i not in sources:
                self.back.append(gradient)  # it is that of the map's result
            else:
                self.back.append(new(networks * rows if reached[i] else 0, layer.outputs))
            self.reached += [reached[i]] * len(PARAMETERS[layer.norm])
            if layer.norm != "none":
                self.back += [new(networks if reached[i] else 0, layer.outputs) for _ in range(2)]
        returned = [new(0) for _ in blocks]
        for i, block in enumerate(blocks):
            if needed[i]:  # zeros where some of a block is not read
                read = block.indices is None or len(block.indices) * rows == len(block.rows)
                returned[i] = torch.empty_like(block.rows) if read else torch.zeros_like(block.rows)
        bounds, form = new(networks, dtype=torch.float64), self.form
        columns = (form.parameters, parameters), (form.saved, self.saved)
        table = form.table(*columns, (form.output_gradients, gradients), (form.back, self.back))
        form.call(
            "backward", blocks, rows, networks, table, ctypes.c_void_p(bounds.data_ptr()), back=returned
        )
        return [
            gradient if is_needed else None for gradient, is_needed in zip(returned, needed, strict=True)
        ], bounds

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters, [N, …] each, zeros of those that are not reached.

        They do not depend on the parameters' present values.
        """
        gradients = [torch.empty_like(p) for p in self.parameters]
        self._update([gradients])
        return gradients

    def step(self, optimiser: StackedOptimiser, rate: float, member_mask: Tensor | None) -> None:
        """Take the optimiser's step, without clipping, along the gradients, which are never written to memory."""
        optimiser.count(member_mask)
        moments = [optimiser.state[name] for name in optimiser.moments]
        steps = optimiser.state["steps"][0] if "steps" in optimiser.state else None
        member_mask = None if member_mask is None else member_mask.contiguous()  # a view of rows is strided
        masks = address(member_mask), address(steps)
        decay = float(optimiser.weight_decay)
        settings = [rate, *ADAM_BETAS, decay, optimiser.momentum, ADAM_EPSILON]
        columns = (), self.parameters, *moments
        self._update(columns, *masks, _KINDS.index(optimiser.kind), settings)

    def _update(
        self,
        columns: Sequence[Sequence[Tensor]],
        members: int = 0,
        steps: int = 0,
        kind: int = 0,
        settings: Sequence[float] = (0.0,) * 6,
    ) -> None:
        """Make the gradients, and write them or take the step of an optimiser; see `Form.targets`, and `update` in mlp.cpp."""
        form = self.form
        table = form.table((form.saved, self.saved), (form.back, self.back))
        masks = ctypes.c_void_p(members), ctypes.c_void_p(steps)
        numbers = ctypes.c_int64(kind), (ctypes.c_double * len(settings))(*settings)
        targets = form.targets(*columns)
        form.call(
            "update", self.blocks, self.batch, len(self.parameters[0]), table, targets, *masks, *numbers
        )


class _Gradients:
    """The gradients of all parameters of a differentiated evaluation, made when one of them is read."""

    def __init__(self, evaluation: MlpEvaluation, bounds: Tensor) -> None:
        self.evaluation, self.finite = evaluation, float(bounds.max()) < _FINITE
        self.computed: list[Tensor] | None = None

    def tensors(self) -> list[Tensor | None]:
        """Return them as they are given to autograd; None: the parameter is not reached."""
        return [
            LazyGradient(self, index) if reached else None
            for index, reached in enumerate(self.evaluation.reached)
        ]

    def __getitem__(self, index: int) -> Tensor:
        if self.computed is None:
            self.computed = self.evaluation.gradients()
        return self.computed[index]


class LazyGradient(Tensor):
    """The gradient of one parameter, [N, …], whose numbers are made when an operation reads them."""

    of: _Gradients
    position: int

    @staticmethod
    def __new__(cls, of: _Gradients, index: int) -> Self:
        p = of.evaluation.parameters[index]
        gradient: Self = Tensor._make_wrapper_subclass(cls, p.shape, strides=p.stride(), dtype=p.dtype)
        gradient.of, gradient.position = of, index
        return gradient

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(LazyGradient, lambda g: g.of[g.position], (args, kwargs or {}))
        return function(*args, **kwargs)


class _Evaluate(torch.autograd.Function):
    """An evaluation as one function of the blocks of its input and of its parameters, to the outputs of all layers."""

    @staticmethod
    def forward(ctx: Any, evaluation: MlpEvaluation, blocks: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.evaluation, ctx.blocks = evaluation, blocks
        ctx.set_materialize_grads(False)
        return tuple(output.data for output in evaluation.outputs)  # those kept do not hold the graph

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        evaluation = copy.copy(ctx.evaluation)  # another pass back over the graph has gradients of its own
        returned, bounds = evaluation.backward(gradients, ctx.needs_input_grad[2 : 2 + ctx.blocks])
        return None, None, *returned, *_Gradients(evaluation, bounds).tensors()


def evaluate(
    form: Form,
    parameters: Sequence[Tensor],
    blocks: Sequence[Block],
    batch: int,
    statistics: Sequence[Tensor],
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Return the outputs of the layers of N networks, [N * B, O] each with its graph, and the running statistics after.

    Args:
        parameters: Of each layer in turn weight [N, O, I] and, but before batch norm, bias [N, O], and gain and bias
            [N, O] of its normalisation; contiguous, changed in place by `MlpEvaluation.step`.
        blocks: Of their input, [N * B, I] together.
        statistics: Running mean and variance [N, O] of each layer with batch norm in turn.
    """
    values = [p.data for p in parameters]
    inputs = [block._replace(rows=block.rows.data.contiguous()) for block in blocks]
    rows, new = len(values[0]) * batch, inputs[0].rows.new_empty
    outputs, saved = list[Tensor](), list[Tensor]()
    for layer in form.layers:
        outputs.append(new(rows, layer.outputs))
        saved.append(outputs[-1])
        if layer.norm != "none":
            inverse = (rows,) if layer.norm == "layer" else (rows // batch, layer.outputs)
            saved += [new(rows, layer.outputs), new(inverse)]
    after = [torch.empty_like(statistic) for statistic in statistics]
    columns = (form.parameters, values), (form.saved, saved), (form.before, statistics), (form.after, after)
    settings = ctypes.c_double(EPSILON), ctypes.c_double(MOMENTUM)
    form.call("forward", inputs, batch, len(values[0]), form.table(*columns), *settings)
    evaluation = MlpEvaluation(form, values, inputs, batch, saved, outputs)
    tensors = *(block.rows for block in blocks), *parameters
    differentiable = _Evaluate.apply(evaluation, len(blocks), *tensors)  # type: ignore[no-untyped-call]
    return differentiable, after


def fused_step(
    gradients: Sequence[Tensor | None],
    optimiser: StackedOptimiser,
    rate: float | Tensor,
    member_mask: Tensor | None,
) -> bool:
    """Take an optimiser's step in the kernel, which computes each gradient where it is used, and return whether it was taken.

    It is if all gradients belong to one evaluation and have not been read, and neither clipping nor skipping on the device is needed.
    """
    first = next((g for g in gradients if g is not None), None)
    of = first.of if isinstance(first, LazyGradient) else None
    if of is None or of.computed is not None:
        return False
    if optimiser.clip is not None or optimiser.skip is not None:
        return False
    if isinstance(rate, Tensor) or isinstance(optimiser.weight_decay, Tensor):
        return False
    reached = of.evaluation.reached
    if len(gradients) != len(reached):
        return False
    for index, (gradient, is_reached) in enumerate(zip(gradients, reached, strict=True)):
        mine = isinstance(gradient, LazyGradient) and gradient.of is of and gradient.position == index
        if not (mine if is_reached else gradient is None):
            return False
    of.evaluation.step(optimiser, rate, member_mask)
    return True
