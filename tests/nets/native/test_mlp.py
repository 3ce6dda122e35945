"""The native operators against autograd and torch's optimisers: random networks, in float64 to 1e-9 and float32 to 1e-4."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from antiphon.nets.layers import normalise
from antiphon.nets.native.compiled_kernel import kernel
from antiphon.nets.native.layer import Layer
from antiphon.nets.native.losses import squared_error
from antiphon.nets.native.mlp import Block, Evaluation, LazyGradient, StackedMlp, evaluate, fused_step
from antiphon.nets.optimisers import Optimiser

pytestmark = pytest.mark.skipif(kernel() is None, reason="no C++ compiler found")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Relative to the largest number of a tensor."""
ACTIVATE = {"identity": lambda x: x, "relu": torch.relu, "tanh": torch.tanh}


def random_layers(chance: random.Random) -> list[Layer]:
    """Up to three hidden layers and up to three heads, of any sizes."""
    inputs = chance.randint(1, 40)
    layers: list[Layer] = []
    norm, activation = chance.choice(["none", "layer", "batch"]), chance.choice(list(ACTIVATE))
    before = inputs
    for i in range(chance.randint(0, 3)):
        layers.append(Layer(i - 1, before, chance.randint(1, 70), norm, activation))
        before = layers[-1].outputs
    last = len(layers) - 1
    return [
        *layers,
        *(
            Layer(last, before, chance.randint(1, 70), chance.choice(["none", "layer", "batch"]))
            for _ in range(chance.randint(1, 3))
        ),
    ]


def parameters_of(layers: list[Layer], count: int, dtype: torch.dtype) -> list[Tensor]:
    found: list[Tensor] = []
    for layer in layers:
        shapes = [(count, layer.outputs, layer.inputs), (count, layer.outputs)]
        shapes += [(count, layer.outputs)] * (0 if layer.norm == "none" else 2)
        found += [torch.randn(shape, dtype=dtype) * 0.4 for shape in shapes]
    return found


def statistics_of(layers: list[Layer], count: int, dtype: torch.dtype) -> list[Tensor]:
    shapes = [(count, layer.outputs) for layer in layers if layer.norm == "batch"]
    each = [(torch.randn(shape, dtype=dtype), torch.rand(shape, dtype=dtype) + 0.5) for shape in shapes]
    return [statistic for pair in each for statistic in pair]


def by_torch(
    layers: list[Layer], parameters: list[Tensor], statistics: list[Tensor], x: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of the layers, [N * B, O] each, with their graph, and the running statistics afterwards."""
    given, running = iter(parameters), iter(statistics)
    outputs: list[Tensor] = []
    after: list[Tensor] = []
    count = len(parameters[0])
    for layer in layers:
        read = x if layer.source < 0 else outputs[layer.source]
        weight, bias = next(given), next(given)
        y = read.view(count, -1, layer.inputs) @ weight.transpose(1, 2)
        before = None
        if layer.norm == "batch":
            before = bias
        else:
            y = y + bias.unsqueeze(1)
        if layer.norm != "none":
            own = {"gain": next(given), "bias": next(given)}
            held = {"mean": next(running), "var": next(running)} if layer.norm == "batch" else {}
            y, moved = normalise(layer.norm, y, own, held, training=True, bias_before=before)
            after += moved.values()
        outputs.append(ACTIVATE[layer.activation](y).flatten(0, 1))
    return outputs, after


def random_blocks(
    chance: random.Random, inputs: int, count: int, rows: int, dtype: torch.dtype
) -> list[Block]:
    """Blocks of all kinds, `inputs` columns together: what all networks read, each in turn, some of a pool side by side."""
    blocks: list[Block] = []
    while inputs:
        kind = chance.choice(["shared", "in turn", "side by side"])
        slots = chance.choice([1, 2, 3]) if kind == "side by side" and inputs > 2 else 1
        columns = chance.randint(1, inputs // slots)
        inputs -= slots * columns
        if kind == "shared":
            blocks.append(Block(torch.randn(rows, columns, dtype=dtype)))
        elif kind == "in turn":
            blocks.append(Block(torch.randn(count * rows, columns, dtype=dtype)))
        else:
            pool = count * slots + chance.choice([0, 2])
            index = torch.randperm(pool)[: count * slots]
            blocks.append(Block(torch.randn(pool * rows, columns, dtype=dtype), index, slots))
    return blocks


def joined(blocks: list[Block], count: int, batch: int) -> Tensor:
    """The input that blocks are of, [N * B, I]."""
    found = []
    for rows, index, slots in blocks:
        each = rows.view(-1, batch, rows.shape[1])
        each = each.expand(count, -1, -1) if index is None else each[index]
        found.append(each.reshape(count, slots, *each.shape[1:]).transpose(1, 2).flatten(2))
    return torch.cat(found, 2).flatten(0, 1)


class Case:
    """Random networks, evaluated and differentiated by the operators and by autograd."""

    def __init__(self, seed: int, dtype: torch.dtype, count: int | None = None) -> None:
        torch.manual_seed(seed)
        chance = random.Random(seed)
        self.layers, self.count = random_layers(chance), count or chance.randint(1, 5)
        rows = chance.randint(2, 19)
        self.parameters = parameters_of(self.layers, self.count, dtype)
        self.statistics = statistics_of(self.layers, self.count, dtype)
        self.blocks = random_blocks(chance, self.layers[0].inputs, self.count, rows, dtype)
        self.x = joined(self.blocks, self.count, rows)
        self.wanted = [len(block.rows) > rows and chance.random() < 0.7 for block in self.blocks]
        self.given = [
            torch.randn(len(self.x), layer.outputs, dtype=dtype) if chance.random() < 0.7 else None
            for layer in self.layers
        ]
        if all(gradient is None for gradient in self.given):
            self.given[-1] = torch.randn(len(self.x), self.layers[-1].outputs, dtype=dtype)
        self.rows = rows

    def evaluation(self) -> Evaluation:
        return StackedMlp(self.layers)(self.parameters, self.blocks, self.rows, self.statistics)

    def expected(self, dtype: torch.dtype) -> list[Tensor]:
        """Outputs, statistics, gradients of the parameters and those of the blocks of the input, computed by torch."""
        leaves = [p.to(dtype, copy=True).requires_grad_() for p in self.parameters]
        blocks = [Block(rows.to(dtype, copy=True).requires_grad_(), *rest) for rows, *rest in self.blocks]
        statistics = [statistic.to(dtype) for statistic in self.statistics]
        outputs, after = by_torch(self.layers, leaves, statistics, joined(blocks, self.count, self.rows))
        leaves += [block.rows for block in blocks]
        ends = [(y, g.to(dtype)) for y, g in zip(outputs, self.given, strict=True) if g is not None]
        found = torch.autograd.grad([y for y, _ in ends], leaves, [g for _, g in ends], allow_unused=True)
        gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, found, strict=True)]
        return [y.detach() for y in [*outputs, *after, *gradients]]


def close(ours: Tensor, exact: Tensor, theirs: Tensor) -> None:
    """Whether the operators are as close to float64 as autograd is, or within the tolerance."""
    scale = float(exact.abs().max().clamp(min=1.0))
    allowed = max(TOLERANCE[ours.dtype] * scale, 3 * float((theirs - exact).abs().max()))
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=allowed)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(10))
def test_random_networks_have_the_outputs_and_gradients_of_autograd(seed: int, dtype: torch.dtype) -> None:
    case = Case(seed, dtype)
    evaluation = case.evaluation()
    back, bounds = evaluation.backward(case.given, case.wanted)
    assert [one is not None for one in back] == case.wanted
    gradients = evaluation.gradients()
    found = [*evaluation.outputs, *evaluation.statistics, *gradients]
    found += [torch.empty(0) if one is None else one for one in back]
    for ours, exact, theirs in zip(found, case.expected(torch.float64), case.expected(dtype), strict=True):
        if ours.numel():
            close(ours, exact, theirs)
    each = torch.stack([g.flatten(1).abs().amax(1).double() for g in gradients]).amax(0)
    assert (bounds >= each).all()  # what the check for divergence relies on


@pytest.mark.parametrize("seed", range(4))
def test_to_autograd_it_is_a_function_with_ordinary_gradients(seed: int) -> None:
    """Also where the graph is gone back over twice, and the gradients of both times are summed."""
    case = Case(seed, torch.float64)
    leaves = [p.clone().requires_grad_() for p in case.parameters]
    blocks = [
        Block(rows.clone().requires_grad_(wanted), *rest)
        for (rows, *rest), wanted in zip(case.blocks, case.wanted, strict=True)
    ]
    outputs, after = evaluate(StackedMlp(case.layers), leaves, blocks, case.rows, case.statistics)
    inputs = leaves + [block.rows for block in blocks if block.rows.requires_grad]
    places = [i for i, given in enumerate(case.given) if given is not None]
    ends, weights = [outputs[i] for i in places], [case.given[i] for i in places]
    first = torch.autograd.grad(ends, inputs, weights, retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad([*ends, *ends], inputs, [*weights, *weights], materialize_grads=True)
    expected = case.expected(torch.float64)
    count = len(outputs) + len(after)
    exact = expected[count : count + len(leaves)]
    exact += [g for g, wanted in zip(expected[count + len(leaves) :], case.wanted, strict=True) if wanted]
    for one, two, own in zip(first, second, exact, strict=True):
        close(one + 0.0, own, own)
        close(two / 2, own, own)


def test_a_step_is_fused_until_a_gradient_is_read() -> None:
    case = Case(1, torch.float64)
    moved = []
    for read in (False, True):
        own = [p.clone().requires_grad_() for p in case.parameters]
        outputs, _ = evaluate(StackedMlp(case.layers), own, case.blocks, case.rows, case.statistics)
        gradients = torch.autograd.grad(outputs[-1].sum(), own, allow_unused=True)
        present = [g for g in gradients if g is not None]
        optimiser = Optimiser("adam", own, stacked=True)
        assert all(isinstance(g, LazyGradient) and g.known_finite for g in present)
        if read:
            assert float(present[0].norm()) > 0
        assert fused_step(gradients, optimiser, 0.01, None) is not read
        if read:
            optimiser.step(gradients, 0.01)
        moved.append(own)
    for fused, plain in zip(*moved, strict=True):
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), 1e38])
@pytest.mark.parametrize("place", ["input", "gradient", "weight"])
def test_the_bound_is_not_finite_where_a_gradient_may_not_be(value: float, place: str) -> None:
    layers = [Layer(-1, 5, 7, activation="relu"), Layer(0, 7, 3)]
    parameters = parameters_of(layers, 3, torch.float32)
    x, given = torch.ones(3 * 4, 5), torch.ones(3 * 4, 3)
    parameters[0][1] = 1.0
    {"input": x, "gradient": given, "weight": parameters[2]}[place][1 if place == "weight" else 5].fill_(
        value
    )
    evaluation = StackedMlp(layers)(parameters, [Block(x)], 4, [])
    _, bounds = evaluation.backward([None, given], [True])
    assert (bounds < 1e30).tolist() == [True, False, True]
    for p in parameters:
        p.requires_grad_()
    outputs, _ = evaluate(StackedMlp(layers), parameters, [Block(x)], 4, [])
    gradients = torch.autograd.grad(outputs[-1], parameters, given)
    assert not any(isinstance(g, LazyGradient) and g.known_finite for g in gradients)


def test_the_same_bits_with_any_number_of_threads_and_networks() -> None:
    case = Case(3, torch.float32)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            own = [p.clone() for p in case.parameters]
            evaluation = StackedMlp(case.layers)(own, case.blocks, case.rows, case.statistics)
            back, _ = evaluation.backward(case.given, case.wanted)
            gradients = evaluation.gradients()
            evaluation.step(Optimiser("adam", own, stacked=True), 0.01, None)
            lost = squared_error(evaluation.outputs[-1], torch.ones_like(evaluation.outputs[-1]), 1.0, 1.0)
            returned = [gradient for gradient in back if gradient is not None]
            found.append([*evaluation.outputs, *gradients, *own, *lost, *returned])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    own, statistics = [p[:1].clone() for p in case.parameters], [s[:1] for s in case.statistics]
    first = StackedMlp(case.layers)(own, [Block(case.x[: case.rows])], case.rows, statistics)
    assert torch.equal(first.outputs[-1], found[0][len(case.layers) - 1][: case.rows])
