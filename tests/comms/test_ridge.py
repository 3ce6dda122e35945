"""Ridge regression in closed form: the least squares that it claims to be, rows that count alone, and noise that is kept out."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from antiphon.comms import Example, Mask
from antiphon.comms.examples import ContextSpec
from antiphon.comms.ridge import MEMORIES, Features, learned, mixture, predicted, solved, zeros
from tests.comms.made import DOUBLE, draw, example, make

LABEL = ContextSpec("label", (), 3)
ROWS, SIZE, FEATURES = 16, 3, 6


def batches(count: int, *, noise: float = 0.0, features: int = FEATURES) -> list[tuple[Tensor, Tensor]]:
    """Features with a constant as the last one, and what a fixed map makes of them."""
    weights = draw(features, SIZE, seed=99)
    found = []
    for seed in range(count):
        x = torch.cat([draw(ROWS, features - 1, seed=seed), torch.ones(ROWS, 1, dtype=DOUBLE)], 1)
        found.append((x, x @ weights + noise * draw(ROWS, SIZE, seed=1000 + seed)))
    return found


def state_of(features: int = FEATURES, size: int = SIZE, *, dtype: torch.dtype = DOUBLE) -> dict[str, Tensor]:
    return {name: value.to(dtype) for name, value in zeros(features, size).items()}


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_the_maps_are_the_least_squares_of_all_rows_with_their_weights(
    dtype: torch.dtype, tolerance: float, unit: float
) -> None:
    """Against numpy's, with the prior as further rows; gradients and features of any unit."""
    seen, state = batches(9, noise=0.5), state_of(dtype=dtype)
    units = torch.tensor([1.0, 1e3, 1e-3, 1, 1, 1], dtype=DOUBLE)
    seen = [(x * units, unit * g) for x, g in seen]
    for x, g in seen:
        state = learned(state, x.to(dtype), g.to(dtype), FEATURES - 1)
    for index, memory in enumerate(MEMORIES):
        weights = [memory ** (len(seen) - 1 - number) for number in range(len(seen))]
        rows = np.concatenate([w**0.5 * x.numpy() for w, (x, _) in zip(weights, seen, strict=True)])
        returned = np.concatenate([w**0.5 * g.numpy() for w, (_, g) in zip(weights, seen, strict=True)])
        total = ROWS * sum(weights)
        prior = np.diag((10 / total * (rows**2).sum(0)) ** 0.5)
        expected, *_ = np.linalg.lstsq(
            np.concatenate([rows, prior]), np.concatenate([returned, np.zeros((FEATURES, SIZE))]), rcond=None
        )
        scale = np.abs(expected * units.numpy()[:, None]).max()
        found = state["maps"][index].double().numpy()
        assert np.abs((found - expected) * units.numpy()[:, None]).max() < tolerance * scale


def test_the_mixture_is_the_best_of_all_that_are_allowed() -> None:
    grid = [(i / 50, j / 50) for i, j in itertools.product(range(51), repeat=2) if i + j <= 50]
    candidates = torch.tensor(grid, dtype=DOUBLE)
    for seed in range(40):
        root, agreement = draw(2, 2, seed=seed), 2 * draw(2, seed=100 + seed)
        products = root @ root.T
        found = mixture(products, agreement)
        assert (found == candidates).all(1).any()

        def error(u: Tensor, s: Tensor = products, b: Tensor = agreement) -> Tensor:
            return ((u @ s) * u).sum(-1) - 2 * (u * b).sum(-1)

        assert error(found) <= error(candidates).min() + 1e-4


@pytest.mark.parametrize("size", [1.0, 7e-9])
def test_of_weights_that_are_equal_the_first_is_taken_however_sums_are_rounded(size: float) -> None:
    """Predictions that agree: by their sum .24 and .26 predict as well as .26 and .24 (rule 9b)."""
    for away in torch.arange(-4, 5, dtype=DOUBLE) * 1e-16:
        signs = torch.tensor([1.0, -1.0], dtype=DOUBLE)
        products = size * torch.ones(2, 2, dtype=DOUBLE) * (1 + away * torch.diag(signs))
        agreement = size / 2 * (1 + away * signs)
        assert mixture(products, agreement).tolist() == [0.24, 0.26]


def test_what_was_fitted_to_noise_is_not_injected_and_what_was_fitted_to_a_map_is() -> None:
    """Of the noise's squares a thousandth at most, where the faster regression alone would inject a fiftieth."""
    for noise in (True, False):
        state, injected, alone = state_of(), [], []
        for seed, (x, g) in enumerate(batches(200)):
            returned = draw(ROWS, SIZE, seed=5000 + seed) if noise else g
            injected.append(predicted(state, x).square().sum() / returned.square().sum())
            alone.append((x @ state["maps"][0]).square().sum() / returned.square().sum())
            state = learned(state, x, returned, FEATURES - 1)
        share, of_one = (float(torch.stack(values[100:]).mean()) for values in (injected, alone))
        if noise:
            assert share < 0.001
            assert of_one > 0.02
        else:
            assert share > 0.9


def test_a_prediction_is_at_most_twice_the_root_mean_square_of_what_returned() -> None:
    state = state_of()
    for x, g in batches(30):
        state = learned(state, x, g, FEATURES - 1)
    x, _ = batches(1)[0]
    found = predicted(state, 100 * x).norm(dim=1)
    weights = torch.tensor([0.98 ** (29 - number) for number in range(30)], dtype=DOUBLE)
    squares = torch.stack([g.square().sum() / ROWS for _, g in batches(30)])
    expected = 2 * ((weights * squares).sum() / weights.sum()).sqrt()
    torch.testing.assert_close(found, expected.expand(ROWS))


def test_where_nothing_returned_all_stays_as_it_was() -> None:
    state = state_of()
    for x, g in batches(5):
        state = learned(state, x, g, FEATURES - 1)
    x, g = batches(1)[0]
    after = learned(state, torch.zeros_like(x), torch.zeros_like(g), FEATURES - 1)
    assert all(torch.equal(after[name], value) for name, value in state.items() if name != "maps")
    torch.testing.assert_close(after["maps"], state["maps"])
    fresh = learned(state_of(), torch.zeros_like(x), torch.zeros_like(g), FEATURES - 1)
    assert all(torch.equal(fresh[name], value) for name, value in state_of().items())


def test_zeros_that_returned_move_no_sum_and_solve_nothing_also_in_a_stack() -> None:
    """Their rows count, but they are no example; another member of the stack learns on."""
    seen, state = batches(3), state_of()
    for x, g in seen[:2]:
        state = learned(state, x, g, FEATURES - 1)
    x, g = seen[2]
    pair = {name: torch.stack([value, value]) for name, value in state.items()}
    after = learned(
        pair, torch.stack([x, x]), torch.stack([0 * g, g]), FEATURES - 1, torch.tensor([True, True])
    )
    alone = learned(state, x, g, FEATURES - 1)
    for name, value in after.items():
        assert torch.equal(value[0], state[name]), name
        torch.testing.assert_close(value[1], alone[name], rtol=1e-9, atol=1e-12)


def test_a_map_of_its_own_for_each_class_is_learned() -> None:
    """So a symbol's share of the gradient may differ from one observation to the next."""
    features, maps = Features(SIZE, (LABEL,), dtype=DOUBLE), draw(3, SIZE, SIZE, seed=7)
    state = state_of(features.count)
    for seed in range(60):
        message, label = draw(64, SIZE, seed=seed), torch.arange(64) % 3
        x = features(message, torch.eye(3, dtype=DOUBLE)[label])
        g = (message.unsqueeze(1) @ maps[label]).squeeze(1)
        error = (predicted(state, x) - g).square().sum() / g.square().sum()
        state = learned(state, x, g, features.one)
    assert error < 0.02


def test_the_constant_of_the_features_and_their_phases() -> None:
    context = (LABEL, ContextSpec("seen", (2,)), ContextSpec("wide", (300,)), ContextSpec("phase", (), 4))
    features = Features(SIZE, context, "phase", dtype=DOUBLE)
    phase = torch.eye(4, dtype=DOUBLE)[[0, 3]]
    columns = [torch.eye(3, dtype=DOUBLE)[[1, 2]], draw(2, 2, seed=1), draw(2, 300, seed=2), phase]
    x = features(draw(2, SIZE, seed=3), torch.cat(columns, 1))
    narrow = SIZE + 3 + 2
    assert features.one == narrow
    assert x.shape == (2, features.count) == (2, narrow + 1 + 32 + 3 * SIZE + 4 * (3 + 2 + 1))
    assert (x[:, narrow] == 1).all()
    of_phases = x[:, -24:].view(2, 6, 4)
    assert (of_phases[0, :, 1:] == 0).all()
    torch.testing.assert_close(
        of_phases[:, :5, :] @ phase.T, x[:, SIZE:narrow].unsqueeze(2) * torch.eye(2)[:, None]
    )


def test_the_solution_for_a_sum_of_nothing_is_zero_and_changes_no_other_of_the_stack() -> None:
    x, g = batches(1)[0]
    sums = x.T @ torch.cat([x, g], 1)
    both = solved(torch.stack([sums, 0 * sums]), FEATURES - 1)
    torch.testing.assert_close(both[0], solved(sums, FEATURES - 1))
    assert not both[1].any()


# --- the kind --------------------------------------------------------------------------------------------------


def taught(predictor, seeds, change=lambda each: each):  # type: ignore[no-untyped-def]
    """Teach a predictor examples whose gradient is a map of the message."""
    weights = draw(18, 18, seed=77)
    for seed in seeds:
        each = example(seed, batch=64)
        each = change(dataclasses.replace(each, returned=each.message @ weights))
        predictor.step(predictor.loss_and_gradients([each])[1], seed)
    return predictor


def test_rows_that_do_not_count_are_in_no_sum() -> None:
    keep = torch.arange(64) % 3 != 0

    def spoiled(each: Example) -> Example:
        masked = dataclasses.replace(each, returned=each.returned.clone(), message=each.message.clone())
        masked.returned[~keep], masked.message[~keep] = torch.nan, torch.nan
        masked.valid = Mask.of(keep)
        return masked

    def fewer(each: Example) -> Example:
        return dataclasses.replace(
            each, message=each.message[keep], context=each.context[keep], returned=each.returned[keep]
        )

    masked, few = (taught(make("ridge", trained=False), range(3), change) for change in (spoiled, fewer))
    torch.testing.assert_close(masked.buffers["sums"], few.buffers["sums"])


@pytest.mark.parametrize("shape", [(18,), (3, 6)])
def test_stacked_models_are_what_they_are_alone(shape: tuple[int, ...]) -> None:
    alone = [make("ridge", trained=False, shape=shape) for _ in range(2)]
    stack = type(alone[0]).stacked([make("ridge", trained=False, shape=shape) for _ in range(2)])
    each = [example(seed, batch=64) for seed in (3, 4)]
    both = dataclasses.replace(
        each[0],
        **{key: torch.cat([getattr(one, key) for one in each]) for key in ("message", "context", "returned")},
    )
    both.loss = both.target = None
    for now in range(30):
        for own, one in zip(alone, each, strict=True):
            own.step(own.loss_and_gradients([one])[1], now)
        stack.step(stack.loss_and_gradients([both])[1], now)
    expected = torch.cat([own.predict(one) for own, one in zip(alone, each, strict=True)])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(stack.predict(both), expected, rtol=1e-8, atol=1e-10)
    stack.write_members()
    torch.testing.assert_close(
        stack.members[1].predict(each[1]), alone[1].predict(each[1]), rtol=1e-8, atol=1e-10
    )


def test_models_that_learn_together_learn_what_they_would_alone() -> None:
    """Two single models of one size, another size, and a stack, each with examples of its own."""

    def models() -> list[Any]:
        single, small = (make("ridge", trained=False, shape=(size,)) for size in (18, 12))
        stack = type(single).stacked([make("ridge", trained=False) for _ in range(2)])
        return [single, small, make("ridge", trained=False), stack]

    def of(number: int, seed: int) -> Example:
        each = example(number + 4 * seed, batch=128 if number == 3 else 64)
        return dataclasses.replace(each, message=each.message[:, : 12 if number == 1 else 18].contiguous())

    def with_returned(each: Example) -> Example:
        return dataclasses.replace(each, returned=each.message.cumsum(1))

    alone, together = models(), models()
    for seed in range(5):
        examples = [[with_returned(of(number, seed))] for number in range(4)]
        expected = [model.loss_and_gradients(its)[0] for model, its in zip(alone, examples, strict=True)]
        found = [loss for loss, _ in type(together[0]).together(together, examples)]
        torch.testing.assert_close(found, expected)
        for model in [*alone, *together]:
            model.step([], seed)
    for one, other in zip(alone, together, strict=True):
        assert one.buffers["map"].any()
        torch.testing.assert_close(one.buffers, other.buffers)


def test_a_member_that_nothing_is_for_stays_as_it_was() -> None:
    stack = type(make("ridge")).stacked([make("ridge", trained=False) for _ in range(2)])
    each = example(3, batch=64)
    both = dataclasses.replace(
        each, **{key: getattr(each, key).repeat(2, 1) for key in ("message", "context", "returned")}
    )
    both.loss = both.target = None
    both.restrict(Mask.of(True), Mask.of(torch.tensor([False, True])))
    stack.step(stack.loss_and_gradients([both])[1], 0, both.member_mask)
    assert not stack.buffers["sums"][0].any()
    assert stack.buffers["sums"][1].any()
    assert stack.counts() == [0, 1]


def test_a_saved_state_goes_on_as_if_nothing_had_been() -> None:
    own = taught(make("ridge", trained=False), range(8))
    other = make("ridge", trained=False)
    other.load_state_dict(own.state_dict())
    each = example(50, batch=64)
    expected, found = (taught(predictor, range(8, 12)).predict(each) for predictor in (own, other))
    assert expected.any()
    assert torch.equal(expected, found)
