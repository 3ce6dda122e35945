"""Layers of stacked networks: convolutions, pools and norms of maps; batch norm of many rows, twice differentiable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.nets.layers import norm_buffers, normalise
from tests.kit.tensors import drawn

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
