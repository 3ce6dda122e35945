"""Predictors of gradients: their own gradients, their zero start, and what moves when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.predictors import (
    PREDICTORS,
    Example,
    LinearGradient,
    LocalGradient,
    MlpGradient,
    Predictor,
)
from antiphon.nets.optimisers import Rate

DOUBLE = torch.float64
BATCH, SIZE, CONTEXT = 6, 4, 3
KINDS = ("linear", "mlp", "local", "local, a hidden layer", "local, regression")


def make(kind: str, *, trained: bool = True, **given: Any) -> Predictor:
    """A predictor; `trained` fills the last layer with numbers that are not zero."""
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.01, horizon=1),
        "dtype": DOUBLE,
        **given,
    }
    own: Predictor
    if kind == "linear":
        own = LinearGradient(SIZE, CONTEXT, **settings)
    elif kind == "mlp":
        own = MlpGradient(SIZE, CONTEXT, **{"hidden": (5, 7), **settings})
    else:
        regression = kind == "local, regression"
        hidden = (5,) if kind == "local, a hidden layer" else ()
        own = LocalGradient(
            SIZE,
            CONTEXT,
            outputs=2 if regression else 3,
            classes=not regression,
            **{"hidden": hidden, **settings},
        )
    if trained:
        with torch.no_grad():
            own.parameters["last.weight"].copy_(draw(*own.parameters["last.weight"].shape, seed=8))
    return own


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def example(kind: str = "linear", seed: int = 1, *, batch: int = BATCH) -> Example:
    target = draw(batch, 2, seed=seed + 3) if kind == "local, regression" else torch.arange(batch) % 3
    return Example(
        draw(batch, SIZE, seed=seed),
        draw(batch, CONTEXT, seed=seed + 1),
        draw(batch, SIZE, seed=seed + 2),
        target=target,
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("context", [CONTEXT, 0])
def test_the_written_out_gradient_of_linear_is_what_autograd_finds(context: int, masked: bool) -> None:
    own = make("linear")
    if not context:
        own = LinearGradient(
            SIZE,
            0,
            generator=torch.Generator(),
            optimiser={"kind": "sgd"},
            rate=Rate(base=0.1, horizon=1),
            dtype=DOUBLE,
        )
    examples = [example(seed=1), example(seed=11)]
    for each in examples:
        each.context = each.context if context else None
        each.valid = torch.tensor([True, False] * 3) if masked else None
    loss, gradients = own.gradients(examples)
    total = torch.stack([own.loss(each) for each in examples]).sum()
    expected = torch.autograd.grad(total, own.trainable)
    torch.testing.assert_close(loss, total.detach())
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind: str) -> None:
    own, each = make(kind), example(kind)
    _, gradients = own.gradients([each])
    buffers = dict(own.buffers)
    step = 1e-6
    for parameter, gradient in zip(own.trainable, gradients, strict=True):
        for index in (0, parameter.numel() - 1):
            losses = []
            for sign in (1, -1):
                own.buffers = dict(buffers)
                parameter.data.view(-1)[index] += sign * step
                losses.append(float(own.gradients([each])[0]))
                parameter.data.view(-1)[index] -= sign * step
            found = (losses[0] - losses[1]) / (2 * step)
            assert float(gradient.reshape(-1)[index]) == pytest.approx(found, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", ["local", "local, a hidden layer", "local, regression"])
def test_local_injects_the_gradient_of_its_own_loss_per_sample(kind: str) -> None:
    own, each = make(kind), example(kind)
    said = own.predict(each)
    step = 1e-6
    for row, column in ((0, 0), (BATCH - 1, SIZE - 1)):
        losses = []
        for sign in (1, -1):
            moved = each.message.clone()
            moved[row, column] += sign * step
            losses.append(own.loss(Example(moved, each.context, None, target=each.target)).item())
        found = BATCH * (losses[0] - losses[1]) / (2 * step)
        assert float(said[row, column]) == pytest.approx(found, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_it_injects_exactly_nothing(kind: str) -> None:
    said = make(kind, trained=False).predict(example(kind))
    assert torch.equal(said, torch.zeros(BATCH, SIZE, dtype=DOUBLE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_lowers_the_loss_and_counts(kind: str) -> None:
    own, each = make(kind, trained=False), example(kind)
    first, _ = own.gradients([each])
    for now in range(50):
        _, gradients = own.gradients([each])
        own.step(gradients, now)
    last, _ = own.gradients([each])
    assert last < first
    assert own.updates == 50


def test_only_local_learns_without_what_comes_back() -> None:
    assert [kind for kind, cls in PREDICTORS.items() if not cls.needs_delta] == ["local"]
    own = make("local")
    with_delta, without = example("local"), example("local")
    without.delta = None
    for a, b in zip(own.gradients([with_delta])[1], own.gradients([without])[1], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(own.predict(with_delta), own.predict(without))


@pytest.mark.parametrize("kind", ["linear", "local", "local, regression"])
def test_masked_rows_count_nothing_but_the_mean_is_over_the_whole_batch(kind: str) -> None:
    own, each = make(kind), example(kind)
    keep = torch.tensor([True, True, False, True, False, False])
    assert each.delta is not None
    assert each.context is not None
    assert each.target is not None
    each.valid = keep
    loss, gradients = own.gradients([each])
    few = Example(each.message[keep], each.context[keep], each.delta[keep], target=each.target[keep])
    loss_few, gradients_few = own.gradients([few])
    torch.testing.assert_close(loss, loss_few * 3 / BATCH)
    for mine, theirs in zip(gradients, gradients_few, strict=True):
        torch.testing.assert_close(mine, theirs * 3 / BATCH)


def test_masked_rows_of_an_mlp_add_no_error() -> None:
    own, each = make("mlp"), example()
    each.valid = torch.zeros(BATCH, dtype=torch.bool)
    loss, gradients = own.gradients([each])
    assert loss == 0
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients)


def test_statistics_of_an_mlp_move_only_in_learning() -> None:
    own, each = make("mlp"), example()
    before = {k: v.clone() for k, v in own.buffers.items()}
    assert set(before) == {"0.norm.mean", "0.norm.var", "1.norm.mean", "1.norm.var"}
    own.predict(each)
    assert all(torch.equal(own.buffers[k], v) for k, v in before.items())
    each.prediction = own.predict(each)
    own.gradients([each])
    assert not any(torch.equal(own.buffers[k], v) for k, v in before.items())


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_other_norms_keep_no_statistics(norm: str) -> None:
    own = make("mlp", norm=norm)
    assert own.buffers == {}
    assert ("0.norm.gain" in own.parameters) == (norm == "layer")
    one = example(batch=1)
    torch.testing.assert_close(own.predict(one), own.predict(one))


def test_a_linear_predictor_has_no_hidden_layers_whatever_a_scenario_keeps() -> None:
    own = make("linear", hidden=(8,))
    assert list(own.parameters) == ["last.weight", "last.bias"]
    own.step(own.gradients([example()])[1], 0)


def test_a_remembered_prediction_changes_no_number() -> None:
    own, each = make("linear"), example()
    fresh = own.gradients([each])
    each.prediction = own.predict(each)
    again = own.gradients([each])
    for a, b in zip([fresh[0], *fresh[1]], [again[0], *again[1]], strict=True):
        assert torch.equal(a, b)


def test_hidden_layers_follow_the_generator() -> None:
    first, again = make("mlp"), make("mlp")
    other = make("mlp", generator=torch.Generator().manual_seed(3))
    assert torch.equal(first.parameters["0.weight"], again.parameters["0.weight"])
    assert not torch.equal(first.parameters["0.weight"], other.parameters["0.weight"])
    assert first.parameters["0.weight"].shape == (5, SIZE + CONTEXT)
    assert first.parameters["1.weight"].shape == (7, 5)


def test_a_conditioned_linear_gradient_learns_a_conditioned_rule() -> None:
    own = make("linear", trained=False, rate=Rate(base=0.05, horizon=1))
    rule = draw(SIZE, SIZE + CONTEXT, seed=20)
    for now in range(400):
        message, context = draw(64, SIZE, seed=100 + now), draw(64, CONTEXT, seed=900 + now)
        delta = F.linear(torch.cat([message, context], 1), rule)
        loss, gradients = own.gradients([Example(message, context, delta)])
        own.step(gradients, now)
    assert loss < 1e-3
