"""Stacked MLPs without autograd: forward pass, gradients, optimiser step.

The native kernel computes one network after the other, called directly: torch's dispatcher would take 60 to 100 µs a call.
Shapes: N networks, B rows of each, I inputs and O outputs of a layer, P tensors that a block of inputs is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import torch
from torch import Tensor

from antiphon.nets.native import by_kernel
from antiphon.nets.native.layer import Input, Layer, gradient_like
from antiphon.nets.optimisers import Skip, StackedOptimiser

__all__ = ["Block", "Evaluation", "KernelGradients", "StackedMlp", "bounded"]

_FINITE = 1e30


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
        self.form = by_kernel.Form(layers)

    def __call__(self, blocks: Sequence[Block], batch: int, statistics: Sequence[Tensor]) -> Evaluation:
        """Evaluate the networks, without autograd.

        Args:
            blocks: Of their input, [N * B, I] together.
            batch: B.
            statistics: Running mean and variance [N, O] of each layer with batch norm in turn.
        """
        input = _input(blocks, batch)
        rows, kept = len(self.parameters[0]) * batch, []
        new = input[0][0].new_empty
        for layer in self.layers:
            kept.append(new(rows, layer.outputs))
            if layer.norm != "none":
                inverse = (rows,) if layer.norm == "layer" else (rows // batch, layer.outputs)
                kept += [new(rows, layer.outputs), new(inverse)]
        after = [torch.empty_like(statistic) for statistic in statistics]
        self.form.forward(input, self.parameters, kept, statistics, after)
        return Evaluation(self, input, kept, after)

    def evaluated(self, x: Tensor, outputs: Tensor) -> Evaluation:
        """Return an evaluation of networks of one linear map, of inputs [N, B, I] and outputs [N * B, O]."""
        input = _input([Block(x.flatten(0, 1))], x.shape[1])
        return Evaluation(self, input, [outputs], [])


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
        (blocks, indices, _, rows), parameters = self.input, self.network.parameters
        networks, new = len(parameters[0]), blocks[0].new_empty
        sources = [layer.source for layer in self.network.layers]
        reached = [gradient is not None for gradient in given]
        for i, source in reversed(list(enumerate(sources))):
            if reached[i] and source >= 0:
                reached[source] = True
        self._back = []
        for i, (gradient, layer) in enumerate(zip(given, self.network.layers, strict=True)):
            linear = layer.norm == "none" and layer.activation == "identity"
            if gradient is not None and linear and i not in sources:
                self._back.append(gradient)  # it is that of the map's result
            else:
                self._back.append(new(networks * rows if reached[i] else 0, layer.outputs))
            if layer.norm != "none":
                self._back += [new(networks if reached[i] else 0, layer.outputs) for _ in range(2)]
        returned = [
            gradient_like(block, index, rows) if want else new(0)
            for block, index, want in zip(blocks, indices, wanted, strict=True)
        ]
        bounds = new(networks, dtype=torch.float64)
        self.network.form.backward(self.input, parameters, self._kept, given, self._back, returned, bounds)
        return [one if want else None for one, want in zip(returned, wanted, strict=True)], bounds

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the parameters, [N, …] each; they do not depend on what parameters are now."""
        found = [torch.empty_like(p) for p in self.network.parameters]
        self.network.form.gradients(self.input, self._kept, self._back, found)
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
        steps = optimiser.state["steps"][0] if "steps" in optimiser.state else None
        settings = [rate, *optimiser.betas, optimiser.weight_decay, optimiser.momentum, optimiser.EPSILON]
        made, parameters = (self._kept, self._back), self.network.parameters
        self.network.form.step(
            self.input, *made, parameters, moments, steps, members, optimiser.kind, settings
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
        error = error.flatten(0, 1)
        evaluation = network.evaluated(x, error)  # the outputs are not read
        _, bounds = evaluation.backward([error], [False])
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
