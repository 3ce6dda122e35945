"""Layers against torch's own, alone and stacked; running statistics are values; messages of unit length."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.nets.layers import (
    initial_norm,
    linear,
    norm_buffers,
    normalise,
    unit_length,
)
from tests.comms.made import draw
from tests.kit.tensors import DOUBLE, drawn, same


def double(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def numbers(features: int, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and running statistics that are nobody's defaults."""
    parameters = {"gain": double(features, seed=seed + 1), "bias": double(features, seed=seed + 2)}
    return parameters, {
        "mean": double(features, seed=seed + 3),
        "var": double(features, seed=seed + 4).square() + 0.1,
    }


def torch_norm(layer: nn.Module, parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> nn.Module:
    """Torch's layer with these numbers."""
    layer.double()
    state = {"weight": parameters["gain"], "bias": parameters["bias"]}
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        state |= {"running_mean": buffers["mean"], "running_var": buffers["var"]}
    layer.load_state_dict(state, strict=False)
    return layer


def test_linear_equals_torch_and_stacks() -> None:
    x, weight, bias = double(3, 8, 5), double(3, 4, 5, seed=1), double(3, 4, seed=2)
    stacked = linear(x, weight, bias)
    for i in range(3):
        torch.testing.assert_close(linear(x[i], weight[i], bias[i]), F.linear(x[i], weight[i], bias[i]))
        torch.testing.assert_close(stacked[i], F.linear(x[i], weight[i], bias[i]))
        torch.testing.assert_close(linear(x, weight, None)[i], F.linear(x[i], weight[i]))
        torch.testing.assert_close(linear(x[i], weight[i], None), F.linear(x[i], weight[i]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("make", "shape"), [(lambda: nn.BatchNorm1d(6), (8, 6)), (lambda: nn.BatchNorm2d(6), (8, 6, 3, 2))]
)
def test_batch_norm_equals_torch(
    make: Callable[[], nn.Module], shape: tuple[int, ...], training: bool
) -> None:
    parameters, buffers = numbers(6)
    layer = torch_norm(make(), parameters, buffers).train(training)
    x = double(*shape, seed=9)
    before = {key: value.clone() for key, value in buffers.items()}
    y, moved = normalise("batch", x, parameters, buffers, training=training)
    same(buffers, before)  # which are values
    torch.testing.assert_close(y, layer(x))
    torch.testing.assert_close(moved["mean"], layer.running_mean)
    torch.testing.assert_close(moved["var"], layer.running_var)


def test_layer_norm_of_maps_has_one_gain_per_channel() -> None:
    parameters, _ = numbers(3)
    x = double(4, 3, 5, 2, seed=9)
    y, _ = normalise("layer", x, parameters, {}, training=True)
    plain = (x - x.mean((1, 2, 3), keepdim=True)) / (
        x.var((1, 2, 3), keepdim=True, correction=0) + 1e-5
    ).sqrt()
    view = (3, 1, 1)
    torch.testing.assert_close(y, plain * parameters["gain"].view(view) + parameters["bias"].view(view))


def test_a_single_row_uses_running_statistics_and_leaves_them() -> None:
    parameters, buffers = numbers(6)
    x = double(1, 6, seed=9)
    y, moved = normalise("batch", x, parameters, buffers, training=True)
    plain = (x - buffers["mean"]) / (buffers["var"] + 1e-5).sqrt()
    torch.testing.assert_close(y, plain * parameters["gain"] + parameters["bias"])
    same(moved, buffers)


# --- stacked ---------------------------------------------------------------------------------------------


COUNT, ROWS, FEATURES = 3, 8, 6


def norm_numbers(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parameters = {"gain": drawn(1, COUNT, FEATURES), "bias": drawn(2, COUNT, FEATURES)}
    moments = {"mean": drawn(3, COUNT, FEATURES), "var": drawn(4, COUNT, FEATURES).square() + 0.1}
    return parameters, {k: moments[k] for k in norm_buffers(kind, 1)}


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("space", [(), (5, 4)])
@pytest.mark.parametrize("kind", ["batch", "layer", "none"])
def test_stacked_norms_are_the_single_ones(kind: str, space: tuple[int, ...], training: bool) -> None:
    parameters, buffers = norm_numbers(kind)
    before = {k: v.clone() for k, v in buffers.items()}
    leaves = {k: v.requires_grad_() for k, v in parameters.items()}
    x = drawn(5, COUNT, ROWS, FEATURES, *space).requires_grad_()
    y, moved = normalise(kind, x, leaves, buffers, training=training)
    told = drawn(6, *y.shape)
    of = [x, *leaves.values()] if kind != "none" else [x]
    gradients = torch.autograd.grad(y, of, told)
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    assert not any(v.requires_grad for v in moved.values())
    for i in range(COUNT):
        own = [t.data[i].clone().requires_grad_() for t in (x, *leaves.values())]
        held = {k: v[i] for k, v in buffers.items()}
        alone, after = normalise(
            kind, own[0], dict(zip(leaves, own[1:], strict=True)), held, training=training
        )
        close(y[i], alone)
        assert set(moved) == set(after)
        for name, value in after.items():
            close(moved[name][i], value)
        expected = torch.autograd.grad(alone, own[: len(of)], told[i])
        for found, one in zip(gradients, expected, strict=True):
            close(found[i], one)


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_stacked_norms_have_second_derivatives(kind: str) -> None:
    parameters, buffers = norm_numbers(kind)

    def normed(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return normalise(kind, x, {"gain": gain, "bias": bias}, buffers, training=True)[0]

    parameters = {key: value[:, :3] for key, value in parameters.items()}
    buffers = {key: value[:, :3] for key, value in buffers.items()}
    leaves = (drawn(5, COUNT, 4, 3), parameters["gain"], parameters["bias"])
    leaves = tuple(t.requires_grad_() for t in leaves)
    assert torch.autograd.gradcheck(normed, leaves)
    assert torch.autograd.gradgradcheck(normed, leaves)


# --- unit length -----------------------------------------------------------------------------------------


def test_each_row_has_the_norm_one_and_keeps_its_direction() -> None:
    for lead in ((5,), (2, 5)):  # single networks, and stacked ones
        x = draw(*lead, 4, seed=1)
        y, statistics = normalise("unit", x, {}, {}, training=True)
        torch.testing.assert_close(y.norm(dim=-1), torch.ones(lead, dtype=x.dtype))
        torch.testing.assert_close(y * x.norm(dim=-1, keepdim=True), x)
        assert statistics == initial_norm("unit", 4) == norm_buffers("unit", 4) == {}


def test_the_gradient_is_across_the_message() -> None:
    x = draw(5, 4, seed=1).requires_grad_()
    weights = draw(5, 4, seed=2)
    (gradient,) = torch.autograd.grad((unit_length(x) * weights).sum(), x)
    unit = x / x.norm(dim=1, keepdim=True)
    across = weights - (weights * unit).sum(1, keepdim=True) * unit
    torch.testing.assert_close(gradient, across / x.norm(dim=1, keepdim=True))


def test_zeros_stay_zeros_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    y = unit_length(x)
    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()
