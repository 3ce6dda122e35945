"""Models of a named target: their own loss is what they say, and `sobolev_label` holds it to what comes back."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from antiphon.comms.synthetic_gradients import Example
from tests.comms.made import BATCH, SIZE, case, example, make

FORMS = ("", ", a hidden layer", ", regression", ", sites")
NAMES = [f"{kind}{form}" for kind in ("local", "sobolev_label") for form in FORMS]


@pytest.mark.parametrize("name", NAMES)
def test_it_injects_the_gradient_of_its_own_loss_per_sample(name: str) -> None:
    own, each = case(name)
    control, _ = case(name.replace("sobolev_label", "local"))  # the same loss, without the matching
    said, step = own.predict(each), 1e-6
    for row, column in ((0, 0), (BATCH - 1, SIZE - 1)):
        losses = []
        for sign in (1, -1):
            moved = each.message.clone()
            moved[row, column] += sign * step
            losses.append(control.loss(Example(moved, each.context, None, target=each.target)).item())
        found = BATCH * (losses[0] - losses[1]) / (2 * step)
        assert float(said[row, column]) == pytest.approx(found, rel=1e-5, abs=1e-8)


def test_the_control_learns_without_what_comes_back() -> None:
    own = make("local")
    without = dataclasses.replace(example(), delta=None, loss=None)
    for a, b in zip(own.gradients([example()])[1], own.gradients([without])[1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("form", [{}, {"regression": True}, {"sites": (2, 3)}])
def test_sobolev_label_adds_the_distance_of_the_slopes_to_the_loss_of_the_control(
    form: dict[str, Any],
) -> None:
    own, control = make("sobolev_label", **form), make("local", **form)
    each = example(**form)
    assert each.delta is not None
    expected = control.loss(each) + (own.predict(each) - each.delta).abs().sum(1).mean()
    torch.testing.assert_close(own.loss(each), expected)


def test_a_label_at_every_site_is_a_mean_of_cross_entropies() -> None:
    own, each = make("local", sites=(2, 3)), example(sites=(2, 3))
    assert each.target is not None
    outputs = own.forward(each.message, each.context, move=False).view(BATCH, 2, 3, 4)
    expected = F.cross_entropy(outputs.movedim(3, 1), each.target)
    torch.testing.assert_close(own.loss(each), expected)


def test_sizes_follow_the_target() -> None:
    assert make("local", sites=(2, 3)).parameters["last.weight"].shape == (24, SIZE + 5)
    assert make("local").parameters["last.weight"].shape == (4, SIZE + 5)
    assert make("sobolev_label", regression=True).parameters["last.weight"].shape == (2, SIZE + 5)
