"""The operators of `nets/native` in torch, gradients written out: where there is no kernel.

Networks are computed in chunks, all of a chunk as batched products, so that what is made on the way stays in the cache, and
the gradients of the parameters are never all in memory. Shapes: n networks of a chunk; else as in `mlp.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.nets.layers import EPSILON, MOMENTUM
from antiphon.nets.native.layer import Input, Layer, layers_of
from antiphon.nets.optimisers import MOMENTS, StackedOptimiser

__all__ = ["backward", "cross_entropy", "forward", "gradients", "squared_error", "step"]

_BYTES = 1 << 23
"""Of the parameters of a chunk, about: few enough for the cache, enough for calls to cost little beside products."""
_LINE = 16
"""A chunk has a multiple of so many networks: whole lines of memory, as optimisers work on (`whole_lines`)."""

_ByLayer = list[list[Tensor]]
"""Tensors of each layer; none of a layer that no gradient reaches."""


# --- chunks ------------------------------------------------------------------------------------------------------


def _sizes(layers: Sequence[Layer], networks: int, like: Tensor) -> list[int]:
    """Return how many networks each chunk has; the last one has not fewer than the others."""
    each = like.element_size() * sum(layer.outputs * (layer.inputs + 1) for layer in layers)
    size = max(1, _BYTES // (_LINE * each)) * _LINE
    count = max(1, networks // size)
    return [size] * (count - 1) + [networks - (count - 1) * size]


def _by_layer(layers: Sequence[Layer], tensors: Sequence[Tensor], plain: int) -> _ByLayer:
    """Tensors of each layer: `plain` of them, and two more where it is normalised."""
    found, place = [], 0
    for layer in layers:
        end = place + plain + (0 if layer.norm == "none" else 2)
        found.append(list(tensors[place:end]))
        place = end
    return found


def _kept(layers: Sequence[Layer], tensors: Sequence[Tensor], networks: int) -> _ByLayer:
    """Outputs and normalised ones as [N, B, O]; 1 / deviation as [N, B] or [N, O]."""
    return [
        [
            each.view(networks, -1) if k == 2 else each.view(networks, -1, each.shape[1])
            for k, each in enumerate(own)
        ]
        for own in _by_layer(layers, tensors, 1)
    ]


def _back(layers: Sequence[Layer], tensors: Sequence[Tensor], networks: int) -> _ByLayer:
    """Gradients of the maps' results as [N, B, O]; those of gain and shift [N, O]."""
    return [
        [own[0].view(networks, -1, own[0].shape[1]), *own[1:]] if own[0].size(0) else []
        for own in _by_layer(layers, tensors, 1)
    ]


def _in_chunks(tensors: _ByLayer, sizes: list[int]) -> Iterator[_ByLayer]:
    """Yield views of each chunk's, of tensors [N, …]."""
    if len(sizes) == 1:
        yield tensors
        return
    pieces = [[each.split_with_sizes(sizes) for each in own] for own in tensors]
    for k in range(len(sizes)):
        yield [[each[k] for each in own] for own in pieces]


def _pools(input: Input) -> list[Tensor]:
    """Each block as [P, B, columns]."""
    blocks, rows = input[0], input[-1]
    return [block.view(block.size(0) // rows, rows, block.shape[1]) for block in blocks]


def _inputs(input: Input, sizes: Sequence[int]) -> Iterator[Tensor]:
    """Yield the input of each chunk, [n, B, I]."""
    _, indices, slots, _ = input
    blocks, first = list(zip(_pools(input), indices, slots, strict=True)), 0
    for size in sizes:
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


# --- forward -----------------------------------------------------------------------------------------------------


def forward(
    layers: tuple[int, ...],
    input: Input,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    statistics: Sequence[Tensor],
    after: Sequence[Tensor],
) -> None:
    """Write the layers' results into `kept`, and the running statistics after them into `after`."""
    form, networks = layers_of(layers), len(parameters[0])
    sizes = _sizes(form, networks, parameters[0])
    chunks = zip(
        _inputs(input, sizes),
        _in_chunks(_by_layer(form, parameters, 2), sizes),
        _in_chunks(_kept(form, kept, networks), sizes),
        _in_chunks([list(statistics), list(after)], sizes),
        strict=True,
    )
    for x, own, found, running in chunks:
        moved = zip(*running, strict=True)
        for layer, (weight, bias, *norm), (output, *normed) in zip(form, own, found, strict=True):
            read = x if layer.source < 0 else found[layer.source][0]
            if layer.norm == "batch":
                torch.bmm(read, weight.mT, out=output)
                _batch_norm(output, normed, norm, bias, [next(moved), next(moved)])
            else:
                torch.baddbmm(bias.unsqueeze(1), read, weight.mT, out=output)
            if layer.norm == "layer":
                _layer_norm(output, normed, norm)
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
    moved: Sequence[Sequence[Tensor]],
) -> None:
    """Normalise features [n, B, O] in place, likewise, 1 / deviation [n, O]; `moved`: running statistics, before and after.

    The bias before cancels in the rows; the running mean includes it.
    """
    (unit, inverse), rows = normed, z.shape[1]
    mean = z.mean(1)
    torch.sub(z, mean.unsqueeze(1), out=unit)
    square = torch.linalg.vector_norm(unit, dim=1).square_()
    torch.rsqrt(square / rows + EPSILON, out=inverse)
    unit.mul_(inverse.unsqueeze(1))
    (mean_before, mean_after), (var_before, var_after) = moved
    torch.lerp(mean_before, mean.add_(bias), MOMENTUM, out=mean_after)
    torch.lerp(var_before, square.div_(rows - 1), MOMENTUM, out=var_after)
    gain, shift = (each.unsqueeze(1) for each in norm)
    torch.addcmul(shift, unit, gain, out=z)


# --- backward ----------------------------------------------------------------------------------------------------


def backward(
    layers: tuple[int, ...],
    input: Input,
    parameters: Sequence[Tensor],
    kept: Sequence[Tensor],
    given: Sequence[Tensor | None],
    back: Sequence[Tensor],
    returned: Sequence[Tensor],
    bounds: Tensor,
) -> None:
    """Write the gradients of the maps' results into `back`, those of the blocks into `returned`, and `bounds`."""
    form, networks = layers_of(layers), len(parameters[0])
    sizes, columns, first = _sizes(form, networks, parameters[0]), _wanted(input, returned), 0
    known = [  # a gradient that is that of the map's result itself is in `back` already
        [] if one is None or one is own[0] else [one.view(networks, -1, one.shape[1])]
        for one, own in zip(given, _by_layer(form, back, 1), strict=True)
    ]
    chunks = zip(
        _in_chunks(_by_layer(form, parameters, 2), sizes),
        _in_chunks(_kept(form, kept, networks), sizes),
        _in_chunks(known, sizes),
        _in_chunks(_back(form, back, networks), sizes),
        _length_of_input(input, networks).split_with_sizes(sizes),
        bounds.split_with_sizes(sizes),
        strict=True,
    )
    for own, results, above, found, length, bound in chunks:
        of_input, noted = _back_through(form, own, results, above, found, columns, length)
        if of_input is not None:
            noted.append(_length(of_input))
            _return(of_input, input, returned, columns.start, first)
        bound.copy_(reduce(torch.Tensor.add_, noted))
        first += bound.size(0)


def _back_through(
    layers: Sequence[Layer],
    parameters: _ByLayer,
    kept: _ByLayer,
    given: _ByLayer,
    back: _ByLayer,
    columns: slice,
    length: Tensor,
) -> tuple[Tensor | None, list[Tensor]]:
    """Write the gradients of a chunk's maps' results into `back`.

    Args:
        layers: Of the networks.
        parameters: Of the chunk.
        kept: What its forward pass kept.
        given: Gradients of outputs, [n, B, O].
        back: What is not found from gradients of outputs is there already.
        columns: Of the input that want a gradient.
        length: That of the input at most, and √B, [n].

    Returns:
        B times the gradients of the columns, and bounds of the magnitude of the parameters' gradients, [n] each.
    """
    sums: dict[int, Tensor] = {}
    lengths, noted = {-1: length}, []
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
            lengths[source] = _length(kept[source][0]).add_(rows**0.5)
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
    found: Tensor = torch.linalg.vector_norm(stack.flatten(1), dim=1)
    return found


def _length_of_input(input: Input, networks: int) -> Tensor:
    """Return a bound of that of each network's input, [N]."""
    _, indices, slots, rows = input
    total = input[0][0].new_full((networks,), rows**0.5)
    for pool, index, count in zip(_pools(input), indices, slots, strict=True):
        each = _length(pool)
        if pool.size(0) == 1:  # all networks read it
            each = each.expand(networks * count)
        elif index is not None:
            each = each.index_select(0, index)
        total += each if count == 1 else each.view(networks, count).sum(1)
    return total


def _wanted(input: Input, returned: Sequence[Tensor]) -> slice:
    """Return the columns of the input from the first whose gradient is returned to the last."""
    blocks, _, slots, _ = input
    wanted: list[int] = []
    place = 0
    for block, count, found in zip(blocks, slots, returned, strict=True):
        end = place + count * block.shape[1]
        wanted += [place, end] if found.size(0) else []
        place = end
    return slice(wanted[0], wanted[-1]) if wanted else slice(0, 0)


def _return(gradient: Tensor, input: Input, returned: Sequence[Tensor], column: int, first: int) -> None:
    """Write gradients of a chunk's input to where the blocks of the input are.

    Args:
        gradient: [n, B, columns].
        input: Of all networks.
        returned: Memory like that of the blocks; empty for those that want none.
        column: The first of them.
        first: The first network of the chunk.
    """
    blocks, indices, slots, rows = input
    place = -column
    for block, index, count, found in zip(blocks, indices, slots, returned, strict=True):
        width = count * block.shape[1]
        if found.size(0):
            each = gradient[:, :, place : place + width]
            if count > 1:
                each = each.reshape(each.size(0), rows, count, -1).transpose(1, 2).flatten(0, 1)
            own, pool = (
                slice(first * count, (first + gradient.size(0)) * count),
                found.view(found.size(0) // rows, *each.shape[1:]),
            )
            if index is None:
                pool[own] = each
            else:
                pool.index_copy_(0, index[own], each)
        place += width


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


# --- gradients of the parameters, and the optimiser's step -----------------------------------------------------------


def gradients(
    layers: tuple[int, ...],
    input: Input,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    found: Sequence[Tensor],
) -> None:
    """Write the gradients of the parameters into `found`."""
    form = layers_of(layers)
    sizes = _sizes(form, len(found[0]), found[0])
    memory = _in_chunks(_by_layer(form, found, 2), sizes)
    for _ in _gradients(form, input, kept, back, sizes, memory):
        pass


def step(
    layers: tuple[int, ...],
    input: Input,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    parameters: Sequence[Tensor],
    moments: Sequence[Sequence[Tensor]],
    steps: Tensor | None,
    members: Tensor | None,
    kind: str,
    settings: Sequence[float],
) -> None:
    """Count a step of the optimiser of `members` in `steps`, and take it, in one chunk after the other."""
    form, (rate, beta1, beta2, decay, momentum, _) = layers_of(layers), settings
    state = {name: list(tensors) for name, tensors in zip(MOMENTS[kind], moments, strict=False) if tensors}
    if steps is not None:
        state["steps"] = [steps]
    sizes = _sizes(form, len(parameters[0]), parameters[0])
    memory = [p.new_empty(sizes[-1], *p.shape[1:]) for p in parameters]
    each = (_by_layer(form, [own[:size] for own in memory], 2) for size in sizes)
    whole = StackedOptimiser(
        kind, parameters, state=state, betas=(beta1, beta2), weight_decay=decay, momentum=momentum
    )
    taking = [None] * len(sizes) if members is None else members.split_with_sizes(sizes)
    made = _gradients(form, input, kept, back, sizes, each)
    for optimiser, found, own in zip(whole.parts(sizes), made, taking, strict=True):
        optimiser.step(found, rate, own)


def _gradients(
    layers: Sequence[Layer],
    input: Input,
    kept: Sequence[Tensor],
    back: Sequence[Tensor],
    sizes: list[int],
    memory: Iterable[_ByLayer],
) -> Iterator[list[Tensor]]:
    """Make those of each chunk, [n, …] each, in its `memory`."""
    networks = sum(sizes)
    results, of_maps = _kept(layers, kept, networks), _back(layers, back, networks)
    chunks = zip(
        _inputs(input, sizes), _in_chunks(results, sizes), _in_chunks(of_maps, sizes), memory, strict=True
    )
    for x, outputs, given, found in chunks:
        for layer, known, (of_weight, of_bias, *of_norm) in zip(layers, given, found, strict=True):
            if not known:
                for each in (of_weight, of_bias, *of_norm):
                    each.zero_()
                continue
            torch.bmm(known[0].mT, x if layer.source < 0 else outputs[layer.source][0], out=of_weight)
            if layer.norm == "batch":  # before it a bias has no gradient
                of_bias.zero_()
            else:
                torch.sum(known[0], 1, out=of_bias)
            for each, one in zip(of_norm, known[1:], strict=True):
                each.copy_(one)
        yield [each for own in found for each in own]


# --- losses ------------------------------------------------------------------------------------------------------


def squared_error(
    output: Tensor, target: Tensor, mean: float, factor: float, losses: Tensor, derivative: Tensor
) -> None:
    """Write losses and derivative."""
    error, outputs = derivative.view(-1, *target.shape), output.view(-1, *target.shape)
    torch.sub(outputs, target, out=error)
    torch.linalg.vector_norm(derivative, dim=1, out=losses)
    losses.square_().mul_(mean)
    derivative.mul_(2 * mean * factor)


def cross_entropy(output: Tensor, target: Tensor, factor: float, losses: Tensor, derivative: Tensor) -> None:
    """Write losses and derivative."""
    rows, sites = len(output), target[0].numel()
    logs = F.log_softmax(output.view(rows, sites, -1), 2)
    chosen = target.reshape(1, -1, sites, 1).expand(rows // len(target), -1, -1, -1).reshape(rows, sites, 1)
    torch.mean(logs.gather(2, chosen).squeeze(2), 1, out=losses)
    losses.neg_()
    share = factor / sites
    found = derivative.view(logs.shape)
    torch.exp(logs, out=found)
    found.mul_(share).scatter_add_(2, chosen, found.new_tensor(-share).expand(chosen.shape))
