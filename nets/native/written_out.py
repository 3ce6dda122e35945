"""What the native kernel computes, by torch with gradients written out: where there is no kernel.

Networks are computed in chunks, all of a chunk as batched products, so that what is made on the way stays in the cache, and
the gradients of the parameters are never all in memory. Calls of torch cost about as much as the arithmetic of a few
networks: views of the parameters are made once, those of an evaluation once each. Shapes: n networks of a chunk; else as in
`mlp.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.nets.layers import EPSILON, MOMENTUM
from antiphon.nets.native.layer import Input, Layer, gradient_like
from antiphon.nets.optimisers import StackedOptimiser

__all__ = ["Stack", "WrittenOut", "cross_entropy", "squared_error"]

_BYTES = 1 << 23
"""Of the parameters of a chunk, about: few enough for the cache, enough for calls to cost little beside products."""
_LINE = 16
"""A chunk has a multiple of so many networks: whole lines of memory, as optimisers work on (`whole_lines`)."""

_ByLayer = list[list[Tensor]]
"""Tensors of each layer; none of a layer that no gradient reaches."""


class Stack:
    """Parameters of N networks of one kind, in chunks.

    Args:
        layers: Theirs.
        parameters: As of `StackedMlp`.
    """

    def __init__(self, layers: Sequence[Layer], parameters: Sequence[Tensor]) -> None:
        self.layers, self.parameters = layers, parameters
        self.networks = len(parameters[0])
        each = sum(p[0].numel() * p.element_size() for p in parameters)
        size = max(1, _BYTES // (_LINE * each)) * _LINE
        count = max(1, self.networks // size)
        self.sizes = [size] * (count - 1) + [self.networks - (count - 1) * size]
        """How many networks each chunk has; the last one has not fewer than the others."""
        self.chunks = self.in_chunks(self.by_layer(parameters, 2))
        self.maps = [[(own[0].mT, own[1].unsqueeze(1)) for own in chunk] for chunk in self.chunks]
        """By chunk and layer, as products take them."""

    def by_layer(self, tensors: Sequence[Tensor], plain: int) -> _ByLayer:
        """Return tensors of each layer: `plain` of them, and two more where it is normalised."""
        found, place = [], 0
        for layer in self.layers:
            end = place + plain + (0 if layer.norm == "none" else 2)
            found.append(list(tensors[place:end]))
            place = end
        return found

    def in_chunks(self, tensors: _ByLayer) -> list[_ByLayer]:
        """Return views of each chunk's, of tensors [N, …]."""
        if len(self.sizes) == 1:
            return [tensors]
        pieces = [[each.split_with_sizes(self.sizes) for each in own] for own in tensors]
        return [[[each[k] for each in own] for own in pieces] for k in range(len(self.sizes))]


class WrittenOut:
    """One evaluation of N networks, and what its gradients are made from: see `Evaluation` in `mlp.py`.

    Args:
        stack: The networks.
        input: Theirs.
        outputs: What `forward` finds, where it is not needed.
    """

    def __init__(self, stack: Stack, input: Input, outputs: Sequence[Tensor] = ()) -> None:
        self.network, self.input = stack, input
        self.outputs, self.statistics = list(outputs), list[Tensor]()
        self._pools = [
            block.view(block.size(0) // input[-1], input[-1], block.shape[1]) for block in input[0]
        ]
        self._x = list(self._inputs())
        self._kept = stack.in_chunks([[self._opened(output)] for output in outputs])
        self._back: list[_ByLayer] = []

    def _opened(self, stack: Tensor) -> Tensor:
        """View a stack [N * B, O] as [N, B, O]."""
        return stack.view(self.network.networks, self.input[-1], stack.shape[1])

    def _inputs(self) -> Iterator[Tensor]:
        """Yield the input of each chunk, [n, B, I]."""
        _, indices, slots, _ = self.input
        blocks, first = list(zip(self._pools, indices, slots, strict=True)), 0
        for size in self.network.sizes:
            parts = []
            for pool, index, count in blocks:
                own = slice(first * count, (first + size) * count)
                if pool.size(0) == 1:  # all networks read it
                    each = pool.expand(size * count, -1, -1)
                else:
                    each = pool[own] if index is None else pool.index_select(0, index[own])
                if count > 1:
                    each = each.view(size, count, *each.shape[1:]).transpose(1, 2).flatten(2)
                parts.append(each)
            yield parts[0] if len(parts) == 1 else torch.cat(parts, 2)
            first += size

    def forward(self, statistics: Sequence[Tensor]) -> None:
        """Find the outputs, and the running statistics after them."""
        stack, shape, new = self.network, (self.network.networks, self.input[-1]), self.input[0][0].new_empty
        kept = []
        for layer in stack.layers:
            own = [new(*shape, layer.outputs)]
            if layer.norm != "none":
                inverse = shape if layer.norm == "layer" else (stack.networks, layer.outputs)
                own += [new(*shape, layer.outputs), new(inverse)]
            kept.append(own)
        self.outputs = [own[0].flatten(0, 1) for own in kept]
        self.statistics = [torch.empty_like(statistic) for statistic in statistics]
        self._kept = stack.in_chunks(kept)
        running = stack.in_chunks([list(statistics), self.statistics])
        for chunk in zip(self._x, stack.chunks, stack.maps, self._kept, running, strict=True):
            _forward(stack.layers, *chunk)

    def backward(
        self, given: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> tuple[list[Tensor | None], Tensor]:
        """As of `Evaluation`."""
        stack = self.network
        known, back = self._given(given)
        returned = [
            gradient_like(block, index, self.input[-1]) if want else None
            for block, index, want in zip(*self.input[:2], wanted, strict=True)
        ]
        columns, first = self._wanted(wanted), 0
        bounds = torch.empty(stack.networks, dtype=torch.float64)
        self._back = stack.in_chunks(back)
        chunks = zip(
            *(self._x, stack.chunks, self._kept, stack.in_chunks(known), self._back),
            bounds.split_with_sizes(stack.sizes),
            strict=True,
        )
        for *chunk, bound in chunks:
            of_input, noted = _back_through(stack.layers, columns, *chunk)
            if of_input is not None:
                noted.append(_length(of_input))
                self._return(of_input, returned, columns.start, first)
            bound.copy_(reduce(torch.Tensor.add_, noted))
            first += bound.size(0)
        return returned, bounds

    def _given(self, given: Sequence[Tensor | None]) -> tuple[_ByLayer, _ByLayer]:
        """Gradients of the layers' outputs, [N, B, O]; memory for those of the maps' results, and of gain and shift [N, O].

        A gradient that is that of the map's result itself is in the second.
        """
        stack, known, back = self.network, _ByLayer(), _ByLayer()
        sources = {layer.source for layer in stack.layers}
        reached = {i for i, gradient in enumerate(given) if gradient is not None}
        for i, layer in reversed(list(enumerate(stack.layers))):
            if i in reached:
                reached.add(layer.source)
        for i, (layer, gradient) in enumerate(zip(stack.layers, given, strict=True)):
            own = [] if gradient is None else [self._opened(gradient.contiguous())]
            linear = layer.norm == "none" and layer.activation == "identity"
            if i not in reached:
                known.append([])
                back.append([])
            elif own and linear and i not in sources:
                known.append([])
                back.append(own)
            else:
                new = self._x[0].new_empty
                known.append(own)
                back.append([new(stack.networks, self.input[-1], layer.outputs)])
            if i in reached and layer.norm != "none":
                back[i] += [new(stack.networks, layer.outputs) for _ in range(2)]
        return known, back

    def _wanted(self, wanted: Sequence[bool]) -> slice:
        """Return the columns of the input from the first whose gradient is wanted to the last."""
        ends: list[int] = []
        place = 0
        for pool, count, want in zip(self._pools, self.input[2], wanted, strict=True):
            end = place + count * pool.shape[2]
            ends += [place, end] if want else []
            place = end
        return slice(ends[0], ends[-1]) if ends else slice(0, 0)

    def _return(self, gradient: Tensor, returned: Sequence[Tensor | None], column: int, first: int) -> None:
        """Write gradients of a chunk's input to where the blocks of the input are.

        Args:
            gradient: [n, B, columns].
            returned: Memory like that of the blocks; None for those that want none.
            column: The first of them.
            first: The first network of the chunk.
        """
        _, indices, slots, rows = self.input
        place = -column
        for pool, index, count, found in zip(self._pools, indices, slots, returned, strict=True):
            width = count * pool.shape[2]
            if found is not None:
                each = gradient[:, :, place : place + width]
                if count > 1:
                    each = each.reshape(each.size(0), rows, count, -1).transpose(1, 2).flatten(0, 1)
                own = slice(first * count, (first + gradient.size(0)) * count)
                if index is None:
                    found.view(pool.shape)[own] = each
                else:
                    found.view(pool.shape).index_copy_(0, index[own], each)
            place += width

    def gradients(self) -> list[Tensor]:
        """As of `Evaluation`."""
        found = [torch.empty_like(p) for p in self.network.parameters]
        memory = self.network.in_chunks(self.network.by_layer(found, 2))
        for _ in self._gradients(memory):
            pass
        return found

    def step(self, optimiser: StackedOptimiser, rate: float, members: Tensor | None) -> None:
        """As of `Evaluation`; where some networks take the step, the gradients of all are in memory."""
        if not optimiser.counts_agree(members):
            optimiser.step(self.gradients(), rate, members)
            return
        stack = self.network
        memory = [p.new_empty(stack.sizes[-1], *p.shape[1:]) for p in stack.parameters]
        chunks = (stack.by_layer([own[:size] for own in memory], 2) for size in stack.sizes)
        optimiser.step_in_parts(stack.sizes, self._gradients(chunks), rate)

    def _gradients(self, memory: Iterable[_ByLayer]) -> Iterator[list[Tensor]]:
        """Make those of each chunk, [n, …] each, in its `memory`."""
        for x, kept, back, found in zip(self._x, self._kept, self._back, memory, strict=True):
            for layer, known, (of_weight, of_bias, *of_norm) in zip(
                self.network.layers, back, found, strict=True
            ):
                if not known:
                    for each in (of_weight, of_bias, *of_norm):
                        each.zero_()
                    continue
                torch.bmm(known[0].mT, x if layer.source < 0 else kept[layer.source][0], out=of_weight)
                if layer.norm == "batch":  # before it a bias has no gradient
                    of_bias.zero_()
                else:
                    torch.sum(known[0], 1, out=of_bias)
                for each, one in zip(of_norm, known[1:], strict=True):
                    each.copy_(one)
            yield [each for own in found for each in own]


# --- forward, of a chunk -----------------------------------------------------------------------------------------


def _forward(
    layers: Sequence[Layer],
    x: Tensor,
    parameters: _ByLayer,
    maps: Sequence[tuple[Tensor, Tensor]],
    kept: _ByLayer,
    running: _ByLayer,
) -> None:
    """Write outputs and what normalisations keep into `kept`; `running`: statistics before, and after to be written."""
    statistics = zip(*running, strict=True)
    for i, layer in enumerate(layers):
        (weight, bias), (output, *normed) = maps[i], kept[i]
        read = x if layer.source < 0 else kept[layer.source][0]
        if layer.norm == "batch":
            torch.bmm(read, weight, out=output)
            _batch_norm(
                output, normed, parameters[i][2:], parameters[i][1], [next(statistics), next(statistics)]
            )
        else:
            torch.baddbmm(bias, read, weight, out=output)
        if layer.norm == "layer":
            _layer_norm(output, normed, parameters[i][2:])
        if layer.activation != "identity":
            output.relu_() if layer.activation == "relu" else output.tanh_()


def _layer_norm(z: Tensor, normed: Sequence[Tensor], norm: Sequence[Tensor]) -> None:
    """Normalise rows [n, B, O] in place; `normed`: what they are before gain and shift, and 1 / deviation [n, B], is written."""
    unit, inverse = normed
    normalised, _, rstd = torch.native_layer_norm(z, (z.shape[2],), None, None, EPSILON)
    unit.copy_(normalised)
    inverse.copy_(rstd.squeeze(2))
    gain, shift = (each.unsqueeze(1) for each in norm)
    torch.addcmul(shift, unit, gain, out=z)


def _batch_norm(
    z: Tensor,
    normed: Sequence[Tensor],
    norm: Sequence[Tensor],
    bias: Tensor,
    statistics: Sequence[Sequence[Tensor]],
) -> None:
    """Normalise features [n, B, O] in place, likewise, 1 / deviation [n, O]; `statistics`: running ones, before and after.

    The bias before cancels in the rows; the running mean includes it.
    """
    (unit, inverse), rows = normed, z.shape[1]
    mean = z.mean(1)
    torch.sub(z, mean.unsqueeze(1), out=unit)
    square = torch.linalg.vector_norm(unit, dim=1).square_()
    torch.rsqrt(square / rows + EPSILON, out=inverse)
    unit.mul_(inverse.unsqueeze(1))
    (mean_before, mean_after), (var_before, var_after) = statistics
    torch.lerp(mean_before, mean.add_(bias), MOMENTUM, out=mean_after)
    torch.lerp(var_before, square.div_(rows - 1), MOMENTUM, out=var_after)
    gain, shift = (each.unsqueeze(1) for each in norm)
    torch.addcmul(shift, unit, gain, out=z)


# --- backward, of a chunk ----------------------------------------------------------------------------------------


def _back_through(
    layers: Sequence[Layer],
    columns: slice,
    x: Tensor,
    parameters: _ByLayer,
    kept: _ByLayer,
    given: _ByLayer,
    back: _ByLayer,
) -> tuple[Tensor | None, list[Tensor]]:
    """Write the gradients of a chunk's maps' results into `back`.

    Args:
        layers: Of the networks.
        columns: Of the input that want a gradient.
        x: The input of the chunk.
        parameters: Its parameters.
        kept: What its forward pass kept.
        given: Gradients of outputs, [n, B, O].
        back: What is not found from gradients of outputs is there already.

    Returns:
        B times the gradients of the columns, and bounds of the magnitude of the parameters' gradients, [n] each.
    """
    sums: dict[int, Tensor] = {}
    lengths: dict[int, Tensor] = {}
    noted: list[Tensor] = []
    for i, layer in reversed(list(enumerate(layers))):
        if not back[i]:
            continue
        (dz, *of_norm), (output, *normed), (weight, _, *norm) = back[i], kept[i], parameters[i]
        rows, source = dz.shape[1], layer.source
        above = [*given[i], *([sums[i]] if i in sums else [])]
        if above:
            _through_activation(above, output, layer.activation, dz)
        if layer.norm != "none":
            _through_norm(dz, layer.norm, normed, norm[0], of_norm)
            noted += [_length(each) for each in of_norm]
        if source not in lengths:
            lengths[source] = _length(x if source < 0 else kept[source][0]).add_(rows**0.5)
        noted.append(_length(dz).mul_(lengths[source]))
        if source < 0:
            weight = weight[:, :, columns]
        if weight.shape[2]:
            start = sums.get(source)
            known = start is not None
            start = dz.new_empty(*dz.shape[:2], weight.shape[2]) if start is None else start
            factor = rows if source < 0 else 1
            sums[source] = torch.baddbmm(start, dz, weight, beta=int(known), alpha=factor, out=start)
    return sums.get(-1), noted


def _length(stack: Tensor) -> Tensor:
    """Return the Euclidean length of what each network has, [n]: no product of two is longer than the product of their lengths."""
    found: Tensor = torch.linalg.vector_norm(stack, dim=tuple(range(1, stack.dim())))
    return found


def _through_activation(above: Sequence[Tensor], y: Tensor, activation: str, out: Tensor) -> None:
    """Write the gradient of an activation's input, of one or two that add up to that of its result y."""
    dy = above[0] if len(above) == 1 else torch.add(*above, out=out)
    if activation == "relu":
        torch.ops.aten.threshold_backward.grad_input(dy, y, 0, grad_input=out)
    elif activation == "tanh":
        torch.ops.aten.tanh_backward.grad_input(dy, y, grad_input=out)
    elif dy is not out:
        out.copy_(dy)


def _through_norm(
    dz: Tensor, norm: str, normed: Sequence[Tensor], gain: Tensor, of_norm: Sequence[Tensor]
) -> None:
    """Turn the gradient [n, B, O] of a normalisation's result into that of its input; write those of gain and shift."""
    (unit, inverse), (of_gain, of_shift) = normed, of_norm
    torch.sum(dz * unit, 1, out=of_gain)
    torch.sum(dz, 1, out=of_shift)
    gain = gain.unsqueeze(1)
    if norm == "layer":
        dz.mul_(gain)
        total, along, scale = (
            dz.mean(2, keepdim=True),
            (dz * unit).mean(2, keepdim=True),
            inverse.unsqueeze(2),
        )
    else:
        rows = dz.shape[1]
        total, along = (each.div(rows).unsqueeze(1) for each in (of_shift, of_gain))
        scale = gain * inverse.unsqueeze(1)
    dz.sub_(total).addcmul_(unit, along, value=-1).mul_(scale)


# --- losses ------------------------------------------------------------------------------------------------------


def squared_error(output: Tensor, target: Tensor, mean: float, factor: float) -> tuple[Tensor, Tensor]:
    """Return losses and derivative: see `losses.py`."""
    error = (output.view(-1, *target.shape) - target).view(output.shape)
    losses = torch.linalg.vector_norm(error, dim=1).square_().mul_(mean)
    return losses, error.mul_(2 * mean * factor)


def cross_entropy(output: Tensor, target: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return losses and derivative: see `losses.py`."""
    rows, sites = len(output), target[0].numel()
    logs = F.log_softmax(output.view(rows, sites, -1), 2)
    chosen = target.reshape(1, -1, sites, 1).expand(rows // len(target), -1, -1, -1).reshape(rows, sites, 1)
    losses = logs.gather(2, chosen).squeeze(2).mean(1).neg_()
    share = factor / sites
    derivative = logs.exp_().mul_(share)
    derivative.scatter_add_(2, chosen, derivative.new_tensor(-share).expand(chosen.shape))
    return losses, derivative.view(output.shape)
