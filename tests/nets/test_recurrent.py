"""Cells against torch's own, by hand, stacked; norms as their papers write them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.nets.recurrent_cells import CELLS, Cell
from tests.kit.tensors import DOUBLE, drawn

BATCH, INPUTS, SIZE = 6, 5, 4

Tensors = dict[str, Tensor]
each_kind = pytest.mark.parametrize("kind", CELLS)
each_norm = pytest.mark.parametrize("norm", ["none", "layer", "batch"])


def cell(kind: str, norm: str = "none", leak: float = 0.3) -> Cell:
    return Cell(kind=kind, inputs=INPUTS, size=SIZE, norm=norm, leak=leak)


def numbers(cell: Cell, seed: int = 0) -> tuple[Tensors, Tensors]:
    """Parameters and running statistics that are nobody's defaults, in float64."""
    parameters = cell.parameters(torch.Generator().manual_seed(seed))
    jittered = {
        k: v.double() + 0.3 * drawn(seed + i, *v.shape) for i, (k, v) in enumerate(parameters.items())
    }
    return jittered, {
        k: v.double() + drawn(seed + i, *v.shape).square() for i, (k, v) in enumerate(cell.buffers().items())
    }


def given(cell: Cell, seed: int = 10) -> tuple[Tensor, Tensor]:
    """An input and a state."""
    return drawn(seed, BATCH, INPUTS), drawn(seed + 1, BATCH, cell.state_size)


@pytest.mark.parametrize(("kind", "make"), [("rnn", nn.RNNCell), ("gru", nn.GRUCell), ("lstm", nn.LSTMCell)])
def test_it_equals_torchs_cell(kind: str, make: Callable[[int, int], nn.Module]) -> None:
    ours, theirs = cell(kind), make(INPUTS, SIZE).double()
    parameters = {
        f"{part}.{name}": getattr(theirs, f"{name}_{letters}").data
        for part, letters in (("input", "ih"), ("recurrent", "hh"))
        for name in ("weight", "bias")
    }
    state = torch.zeros(BATCH, ours.state_size, dtype=DOUBLE)
    expected = (state[:, :SIZE], state[:, SIZE:]) if kind == "lstm" else state
    for tick in range(5):
        x = 2 * drawn(tick, BATCH, INPUTS)
        h, state, _ = ours(parameters, {}, x, state, training=True)
        expected = theirs(x, expected)
        both = torch.cat(expected, 1) if kind == "lstm" else expected
        torch.testing.assert_close(state, both, rtol=0, atol=1e-12)
        assert torch.equal(h, state[:, :SIZE])


def test_a_leaky_unit_takes_its_share_of_the_new() -> None:
    parameters, _ = numbers(cell("leaky"))
    x, state = given(cell("leaky"))
    plain, _, _ = cell("rnn")(parameters, {}, x, state, training=True)
    for leak in (0.3, 1.0):
        h, after, _ = cell("leaky", leak=leak)(parameters, {}, x, state, training=True)
        torch.testing.assert_close(h, (1 - leak) * state + leak * plain)
        assert torch.equal(h, after)


def test_layer_norm_in_an_lstm_is_that_of_ba_et_al() -> None:
    ours = cell("lstm", "layer")
    p, _ = numbers(ours)
    x, state = given(ours)
    h, c = state.chunk(2, 1)

    def normed(name: str, y: Tensor) -> Tensor:
        return F.layer_norm(y, y.shape[1:], p[f"{name}.gain"], p[f"{name}.bias"])

    gates = normed("input.norm", x @ p["input.weight"].T) + normed(
        "recurrent.norm", h @ p["recurrent.weight"].T
    )
    i, f, g, o = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    expected = torch.cat([o.sigmoid() * normed("cell.norm", c).tanh(), c], 1)
    torch.testing.assert_close(ours(p, {}, x, state, training=True)[1], expected)


def test_batch_norm_in_an_lstm_is_that_of_cooijmans_et_al() -> None:
    """Three norms, two within the gates and one of c where the units read it; statistics are shared by the times."""
    ours = cell("lstm", "batch")
    p, buffers = numbers(ours)
    norms = {name: nn.BatchNorm1d(features).double() for name, features in ours.norms.items()}
    for name, norm in norms.items():
        norm.load_state_dict(
            {"weight": p[f"{name}.gain"], "bias": p[f"{name}.bias"]}
            | {"running_mean": buffers[f"{name}.mean"], "running_var": buffers[f"{name}.var"]},
            strict=False,
        )
    _, state = given(ours)
    expected = state
    for tick in range(3):
        x = drawn(tick, BATCH, INPUTS)
        _, state, buffers = ours(p, buffers, x, state, training=True)
        h, c = expected.chunk(2, 1)
        gates = norms["input.norm"](x @ p["input.weight"].T)
        gates = gates + norms["recurrent.norm"](h @ p["recurrent.weight"].T)
        i, f, g, o = gates.chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        expected = torch.cat([o.sigmoid() * norms["cell.norm"](c).tanh(), c], 1)
        torch.testing.assert_close(state, expected)
    for name, norm in norms.items():
        torch.testing.assert_close(buffers[f"{name}.mean"], norm.running_mean)
        torch.testing.assert_close(buffers[f"{name}.var"], norm.running_var)


@pytest.mark.cases(1)
@each_norm
@each_kind
def test_gradients_reach_the_input_the_state_and_every_number(kind: str, norm: str) -> None:
    ours = cell(kind, norm)
    parameters, buffers = numbers(ours)
    names = list(parameters)

    def state_after(x: Tensor, state: Tensor, *values: Tensor) -> Tensor:
        return ours(dict(zip(names, values, strict=True)), buffers, x, state, training=True)[1]

    leaves = [t.requires_grad_() for t in (*given(ours), *parameters.values())]
    assert torch.autograd.gradcheck(state_after, leaves)


@each_norm
@each_kind
def test_how_it_starts(kind: str, norm: str) -> None:
    ours = cell(kind, norm)
    p = ours.parameters(torch.Generator().manual_seed(3))
    again = ours.parameters(torch.Generator().manual_seed(3))
    assert all(torch.equal(p[name], again[name]) for name in p)
    for gate in p["recurrent.weight"].split(SIZE):
        torch.testing.assert_close(gate @ gate.T, torch.eye(SIZE))
    bias = p["input.bias" if norm == "none" else "input.norm.bias"]
    assert bias.split(SIZE)[CELLS[kind] // 4].tolist() == [float(kind == "lstm")] * SIZE  # the forget gate's
    assert bias.sum() == (SIZE if kind == "lstm" else 0)
    gains = torch.cat([v for name, v in p.items() if name.endswith("gain")] or [torch.ones(1)])
    torch.testing.assert_close(gains, torch.full_like(gains, 0.1 if norm == "batch" else 1.0))
