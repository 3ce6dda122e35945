"""What holds for synthetic gradients of every kind, and for critics, heads and convolutions each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.comms import Example, Mask, Predictor
from antiphon.comms.examples import ContextSpec
from tests.comms.made import BATCH, CASES, CLASSES, DOUBLE, LABEL, SHAPE, SIZE, case, draw, example, make
from tests.kit.some import some

every_case = pytest.mark.parametrize("name", CASES)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", [name for name in CASES if name != "ridge"])  # it has no gradients
def test_gradients_equal_finite_differences(name: str) -> None:
    own, each = case(name)
    both = [each, dataclasses.replace(each, message=each.message.flip(0))]
    total, gradients = own.loss_and_gradients(both)
    torch.testing.assert_close(
        total, own.loss_and_gradients(both[:1])[0] + own.loss_and_gradients(both[1:])[0]
    )
    buffers = dict(own.buffers)
    step = 1e-6
    for parameter, gradient in zip(own.trainable, gradients, strict=True):
        for index in (0, parameter.numel() - 1):
            losses = []
            for sign in (1, -1):
                own.buffers = dict(buffers)
                parameter.data.view(-1)[index] += sign * step
                losses.append(float(own.loss_and_gradients(both)[0]))
                parameter.data.view(-1)[index] -= sign * step
            found = (losses[0] - losses[1]) / (2 * step)
            assert float(gradient.reshape(-1)[index]) == pytest.approx(found, rel=1e-5, abs=1e-8)


@every_case
def test_untrained_it_injects_exactly_nothing(name: str) -> None:
    own, each = case(name, trained=False)
    assert torch.equal(own.predict(each), torch.zeros(BATCH, SIZE, dtype=DOUBLE))
    if own.needs_loss:
        assert torch.equal(own.value(each), torch.zeros(BATCH, dtype=DOUBLE))


@pytest.mark.parametrize("name", ["linear", "mlp", "conv", "conv, hidden filters"])
def test_the_loss_of_a_regression_is_the_mean_over_the_batch_of_the_squared_distance(name: str) -> None:
    own, each = case(name)
    assert each.returned is not None
    torch.testing.assert_close(own.loss(each), (own.predict(each) - each.returned).square().sum() / BATCH)


@pytest.mark.parametrize("name", [name for name, (_, given) in CASES.items() if not given.get("hidden")])
def test_masked_rows_count_nothing_but_the_mean_is_over_the_whole_batch(name: str) -> None:
    own, each = case(name, hidden=()) if CASES[name][0] != "mlp" else case(name, norm="none")
    keep = torch.tensor([True, True, False, True, False, False])
    assert each.returned is not None
    assert each.context is not None
    assert each.target is not None
    assert each.loss is not None
    few = Example(each.message[keep], each.context[keep], each.returned[keep])
    few.target, few.loss = each.target[keep], each.loss[keep]
    each.valid = Mask.of(keep)
    each.returned[~keep] = torch.nan
    each.loss[~keep] = torch.nan
    loss, gradients = own.loss_and_gradients([each])
    loss_few, gradients_few = own.loss_and_gradients([few])
    torch.testing.assert_close(loss, loss_few * 3 / BATCH)
    for mine, theirs in zip(gradients, gradients_few, strict=True):
        torch.testing.assert_close(mine, theirs * 3 / BATCH)


def slope(function: Callable[[Example], Tensor], each: Example, row: int, column: int) -> float:
    """A central difference: of a function of an example by a component of the message."""
    ends = []
    for step in (1e-6, -1e-6):
        moved = each.message.clone()
        moved[row, column] += step
        ends.append(function(dataclasses.replace(each, message=moved)).sum().item())
    return (ends[0] - ends[1]) / 2e-6


@every_case
def test_what_it_says_is_a_slope_in_the_message(name: str) -> None:
    """Of a critic's values; of the loss that a model of a target has alone."""
    own, each = case(name)
    control, _ = case(name.replace("sobolev_label", "local"))
    for row, column in ((0, 0), (BATCH - 1, SIZE - 1)):
        if own.needs_loss:  # of all: under batch norm a message moves its neighbours' values too
            expected, found = slope(own.value, each, row, column), own.predict(each)
        elif own.target is not None:
            expected, found = BATCH * slope(control.loss, each, row, column), own.predict(each)
        else:
            pytest.skip("it predicts no slope, and its loss does not depend on the message")
        assert float(found[row, column]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


# --- critics ---------------------------------------------------------------------------------------------


CRITICS = ("critic", "sobolev")


def values_by_hand(own: Predictor, each: Example) -> torch.Tensor:
    """The value of a critic without hidden layers, conditioned on LABEL and PLACE, row by row."""
    weight, bias, bilinear = (own.parameters[key].data for key in ("last.weight", "last.bias", "bilinear"))
    assert each.context is not None
    rows = []
    for message, context in zip(each.message, each.context, strict=True):
        label, place = int(context[:CLASSES].argmax()), context[CLASSES:]
        plain = weight[label] @ torch.cat([message, place]) + bias[label]
        rows.append(plain + message @ (bilinear @ place))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_first_categorical_signal_selects_and_real_ones_enter_twice(kind: str) -> None:
    own, each = make(kind), example()
    assert own.parameters["last.weight"].shape == (CLASSES, SIZE + 2)
    assert own.parameters["bilinear"].shape == (SIZE, 2)
    torch.testing.assert_close(own.value(each), values_by_hand(own, each))


@pytest.mark.parametrize("kind", CRITICS)
def test_the_loss_is_the_mean_distance_from_what_came_back_and_of_sobolev_that_of_the_slopes(
    kind: str,
) -> None:
    own, each = make(kind, hidden=(5,)), example()
    slopes = (own.predict(each) - some(each.returned)).abs().sum(1).mean()
    values = (own.value(each) - some(each.loss)).abs().mean()
    expected = values + slopes if kind == "sobolev" else values
    torch.testing.assert_close(own.loss(each).detach(), expected)


# --- models of a target ----------------------------------------------------------------------------------


def test_a_head_runs_without_dropout_and_with_the_statistics_of_the_rows() -> None:
    head = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.9), nn.Linear(SIZE, 4))
    own, each = make("local", network=head), example()
    assert torch.equal(own.predict(each), own.predict(each))
    shifted = Example(each.message * 3 + 5, each.context, None, target=each.target)
    torch.testing.assert_close(own.predict(shifted) * 3, own.predict(each), rtol=1e-4, atol=1e-6)
    before = {name: b.clone() for name, b in own.buffers.items()}
    own.loss_and_gradients([each])
    assert not torch.equal(own.buffers["module.0.running_mean"], before["module.0.running_mean"])


@pytest.mark.parametrize("form", [{}, {"regression": True}, {"sites": (2, 3)}])
def test_sobolev_label_adds_the_distance_of_the_slopes_to_the_loss_of_the_control(
    form: dict[str, Any],
) -> None:
    own, control = make("sobolev_label", **form), make("local", **form)
    each = example(**form)
    assert each.returned is not None
    bare = dataclasses.replace(each, returned=None, loss=None)
    expected = control.loss(bare) + (own.predict(each) - each.returned).abs().sum(1).mean()
    torch.testing.assert_close(own.loss(each), expected)


# --- convolutions ----------------------------------------------------------------------------------------


def test_every_feature_is_a_channel_and_a_map_is_its_own() -> None:
    returned = ContextSpec("returned", SHAPE)
    own = make("conv", context=(LABEL, returned), trained=False)
    assert own.parameters["last.weight"].shape == (2, 2 + 3 + 2, 3, 3)
    with torch.no_grad():  # copy the first channel of what came back, and add 10 for the second class
        own.parameters["last.weight"][0, 5, 1, 1] = 1
        own.parameters["last.weight"][:, 3, 1, 1] = 10
    label = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=DOUBLE)
    back = draw(2, SIZE, seed=1)
    said = own.predict(Example(draw(2, SIZE, seed=2), torch.cat([label, back], 1), None)).view(2, *SHAPE)
    maps = back.view(2, *SHAPE)
    torch.testing.assert_close(said[0, 0], maps[0, 0])
    torch.testing.assert_close(said[1, 0], maps[1, 0] + 10)
    assert torch.equal(said[1, 1], torch.full((3, 3), 10.0, dtype=DOUBLE))
