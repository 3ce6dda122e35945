"""How well gradients are predicted, in closed form, and gates: what predicts is applied as far as that is certain."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from antiphon.comms import alignment
from antiphon.comms.examples import Example
from antiphon.comms.predictors import LinearGradient
from antiphon.nets.schedules import Rate
from tests.kit.tiers import sampled


def gradients(seed: int = 0) -> Tensor:
    return torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def metrics(synthetic: Tensor, true: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in alignment(synthetic, true).items()}


@pytest.mark.parametrize("factor", [1.0, 0.5, -2.0, 1e-8])
def test_a_multiple_of_the_truth(factor: float) -> None:
    true = gradients()
    true = 1e-3 * (true - true.mean(0))
    found = metrics(factor * true, true)
    assert found["cosine"] == pytest.approx(math.copysign(1, factor))
    assert found["norm_ratio"] == pytest.approx(abs(factor))
    assert found["r2"] == pytest.approx(1 - (1 - factor) ** 2)
    assert found["pooled_cosine"] == pytest.approx(math.copysign(1, factor))


def test_samples_without_a_true_gradient_have_no_say_in_the_cosine() -> None:
    """Semantics 34."""
    true = gradients()
    true[10:] = 0
    synthetic = true.clone()
    synthetic[10:] = 1
    assert metrics(synthetic, true)["cosine"] == pytest.approx(1)


def test_in_the_pooled_cosine_samples_weigh_as_much_as_their_gradients() -> None:
    true = torch.tensor([[3.0, 0.0], [0.1, 0.0], [0.1, 0.0]], dtype=torch.float64)
    synthetic = torch.tensor([[3.0, 0.0], [-0.1, 0.0], [-0.1, 0.0]], dtype=torch.float64)
    found = metrics(synthetic, true)
    assert found["cosine"] == pytest.approx(-1 / 3)
    assert found["pooled_cosine"] == pytest.approx((9 - 0.02) / (9 + 0.02))


def test_the_squared_error_is_bias_and_variance() -> None:
    true, noise = gradients(), gradients(1)
    shift = torch.tensor([0.3, 0.0, -0.4, 0.0], dtype=torch.float64)
    noise = noise - noise.mean(0)
    found = metrics(true + shift + noise, true)
    assert found["bias2"] == pytest.approx(0.25)
    assert found["variance"] == pytest.approx(float(noise.square().sum(1).mean()))
    total = float((shift + noise).square().sum(1).mean())  # what a predictor's loss is
    assert found["bias2"] + found["variance"] == pytest.approx(total)


def test_samples_that_do_not_count_are_as_if_they_were_not_there_for_each_member_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    synthetic, true = (torch.randn(4, 9, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.rand(4, 9, generator=generator) < 0.6
    assert 0 < valid.sum() < valid.numel()
    together = alignment(synthetic, true, valid)
    for n in range(4):
        alone = alignment(synthetic[n][valid[n]], true[n][valid[n]])
        assert together.keys() == alone.keys()
        for metric, value in alone.items():
            torch.testing.assert_close(together[metric][n], value, msg=metric)


# --- gates -----------------------------------------------------------------------------------------------


ROWS, SIZE = 64, 5


def gated() -> LinearGradient:
    """A predictor of gradients of which only the gate matters."""
    return LinearGradient(
        (SIZE,),
        (),
        gated=True,
        generator=torch.Generator(),
        optimiser={"kind": "sgd"},
        rate=Rate(base=0.1, run_steps=1),
        dtype=torch.float64,
    )


def compare(predictor: LinearGradient, predictions: Tensor, returned: Tensor) -> None:
    """Have a gate compare predictions with gradients, [K * B, size] each."""
    predictor.see([Example(returned, None, returned, prediction=predictions)])


def drawn(count: int, *, signal: float, noise: float, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Predictions and gradients with a part of length `signal` in common, and noise of their own."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        common, own, other = torch.randn(3, ROWS, SIZE, generator=generator, dtype=torch.float64)
        found.append((signal * common + noise * own, common + 3 * other))
    return found


def after(batches: list[tuple[Tensor, Tensor]]) -> LinearGradient:
    predictor = gated()
    for predictions, returned in batches:
        compare(predictor, predictions, returned)
    return predictor


def test_what_has_not_been_compared_is_not_applied() -> None:
    assert gated().applied(torch.ones(ROWS, SIZE)) is None
    untrained = after([(torch.zeros(ROWS, SIZE), torch.ones(ROWS, SIZE))] * 3)
    assert not untrained.buffers["skill sums"].any()


@pytest.mark.long
@pytest.mark.parametrize("size", sampled([1e-3, 1.0, 1e3], 3, "nightly"))
def test_noise_is_seldom_applied(size: float) -> None:
    steps = opened = 0
    for seed in range(40):
        gate = gated()
        for predictions, returned in drawn(60, signal=0.0, noise=size, seed=seed):
            compare(gate, predictions, returned)
            steps, opened = steps + 1, opened + gate.open.anywhere
    assert opened < 0.1 * steps


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_a_prediction_is_shrunk_to_its_signal(noise: float) -> None:
    """The factor that makes a prediction least wrong is the share of signal in its squares."""
    gate = after(drawn(200, signal=1.0, noise=noise))
    share = 1 / (1 + noise**2)
    assert float(gate.factors) == pytest.approx(share, rel=0.1)
    applied = gate.applied(torch.ones(ROWS, SIZE))
    assert applied is not None
    assert torch.equal(applied, torch.full((ROWS, SIZE), float(gate.factors)))


def test_what_no_longer_predicts_is_applied_no_longer() -> None:
    batches = [*drawn(60, signal=1.0, noise=0.5), *drawn(60, signal=-0.5, noise=1.0, seed=1)]
    assert float(after(batches[:60]).factors) > 0.5
    assert float(after(batches).factors) == 0


def test_many_as_one_do_what_each_does_alone() -> None:
    """Something comes back to one of them at every other step only, and another predicts nothing."""
    alone, members = [gated() for _ in range(3)], [gated() for _ in range(3)]
    together = LinearGradient.stacked(members)
    for now, (predictions, returned) in enumerate(drawn(50, signal=1.0, noise=1.0)):
        came = [True, now % 2 == 0, True]
        scaled = torch.stack([predictions, returned, torch.zeros_like(returned)])
        present = torch.stack([returned * there for there in came])
        compare(together, scaled.flatten(0, 1), present.flatten(0, 1))
        for one, own, there in zip(alone, scaled, came, strict=True):
            if there:
                compare(one, own, returned)
    together.write_members()
    for mine, theirs in zip(members, alone, strict=True):
        torch.testing.assert_close(mine.factors, theirs.factors, rtol=1e-12, atol=0)
    assert (together.factors > 0).tolist() == [True, True, False]
    applied = together.applied(torch.ones(3 * ROWS, SIZE, dtype=torch.float64))
    assert applied is not None
    assert not applied.view(3, -1)[2].any()
