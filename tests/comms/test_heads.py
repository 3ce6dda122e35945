"""Heads: what they read, what they inject in closed form, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.comms.heads import Reconstruction
from antiphon.comms.model import ContextSpec
from antiphon.comms.modules import predictor_of
from antiphon.comms.synthetic_gradients import Example, LocalGradient
from antiphon.errors import ScenarioError
from antiphon.nets.schedules import Rate
from tests.comms.made import (
    BATCH,
    CASES,
    DOUBLE,
    NUMBERS,
    SHAPE,
    SIZE,
    PixelHead,
    case,
    draw,
    example,
    make,
)

CLASS = ContextSpec("answer", (), 4)

TOKENS = (3, 6)
IMAGE = ContextSpec("image", (5,))


def linear_head(outputs: int = 4, size: int = SIZE) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, outputs))


def weights(own: Any, place: str = "") -> tuple[Tensor, Tensor]:
    found = [p for name, p in own.parameters.items() if name.startswith(place)]
    return found[0].detach(), found[1].detach()


def test_a_linear_head_injects_the_error_of_its_softmax_times_its_weights() -> None:
    own, each = make("local", head=linear_head()), example()
    assert each.target is not None
    weight, bias = weights(own)
    error = (each.message @ weight.T + bias).softmax(1) - F.one_hot(each.target, 4)
    torch.testing.assert_close(own.predict(each), error @ weight)
    loss, (by_weight, by_bias) = own.gradients([each])
    torch.testing.assert_close(by_weight, error.T @ each.message / BATCH)
    torch.testing.assert_close(by_bias, error.mean(0))
    torch.testing.assert_close(loss, F.cross_entropy(each.message @ weight.T + bias, each.target))


@pytest.mark.parametrize("shape", [TOKENS, (6, 3, 1)])
def test_pooling_shares_the_slope_among_the_sites(shape: tuple[int, ...]) -> None:
    own, each = make("local", head=linear_head(size=6), pool="mean", shape=shape), example()
    assert each.target is not None
    weight, bias = weights(own)
    sites = each.message.unflatten(1, (6, 3) if len(shape) > 2 else (3, 6))
    mean = sites.mean(2 if len(shape) > 2 else 1)
    slope = ((mean @ weight.T + bias).softmax(1) - F.one_hot(each.target, 4)) @ weight / 3
    expected = (
        slope.unsqueeze(2).expand(-1, -1, 3) if len(shape) > 2 else slope.unsqueeze(1).expand(-1, 3, -1)
    )
    torch.testing.assert_close(own.predict(each), expected.flatten(1))


def test_a_reconstruction_adds_its_own_error_times_its_weight() -> None:
    image = draw(BATCH, 5, seed=8)
    again = Reconstruction(IMAGE, linear_head(5), weight=0.5)
    own = make("local", head=linear_head(), reconstruct=again, context=(IMAGE,))
    each = example()
    each.context = image
    alone = make("local", head=linear_head(), context=())
    bare = Example(each.message, None, None, target=each.target)
    weight, bias = weights(own, "heads.1")
    rest = each.message @ weight.T + bias - image
    expected = alone.predict(bare) + 0.5 * 2 / 5 * rest @ weight
    torch.testing.assert_close(own.predict(each), expected)
    torch.testing.assert_close(own.loss(each), alone.loss(bare) + 0.5 * rest.square().mean())


def test_a_linear_reconstruction_does_not_read_what_it_reconstructs() -> None:
    own = make("local", reconstruct=Reconstruction(IMAGE), context=(IMAGE, NUMBERS))
    assert own.parameters["last.weight"].shape == (4 + 5, SIZE + 2)


def test_a_head_gets_messages_in_their_shape_and_the_shape_of_its_outputs() -> None:
    called: dict[str, Any] = {}

    def factory(**sizes: Any) -> nn.Module:
        called.update(sizes)
        return PixelHead(**sizes)

    make("local", head=factory)
    assert called == {"shape": SHAPE, "outputs": (4,)}


def test_a_head_runs_without_dropout_and_with_the_statistics_of_the_rows() -> None:
    head = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.9), nn.Linear(SIZE, 4))
    own, each = make("local", head=head), example()
    assert torch.equal(own.predict(each), own.predict(each))
    shifted = Example(each.message * 3 + 5, each.context, None, target=each.target)
    torch.testing.assert_close(own.predict(shifted) * 3, own.predict(each), rtol=1e-4, atol=1e-6)
    before = {name: b.clone() for name, b in own.buffers.items()}
    own.gradients([each])
    assert not torch.equal(own.buffers["module.0.running_mean"], before["module.0.running_mean"])


@pytest.mark.parametrize("name", [name for name, (kind, _) in CASES.items() if kind == "local"])
def test_slope_and_training_of_one_pass_are_those_of_two(name: str) -> None:
    own, each = case(name)
    assert isinstance(own, LocalGradient)
    keep = slice(0, 4)  # of a power of two of rows
    assert each.context is not None
    assert each.target is not None
    few = Example(each.message[keep], each.context[keep], None, target=each.target[keep])
    assert own.learns_with(each) == own.own_module
    assert own.learns_with(few)
    before = dict(own.buffers)
    slope, learned = own.predict_and_learn(few)
    assert all(own.buffers[key] is value for key, value in before.items())
    assert torch.equal(slope, own.predict(few))
    loss, gradients = own.gradients([few])
    after, own.buffers = own.buffers, before
    few.learned = learned
    again, same = own.gradients([few])
    assert torch.equal(loss, again)
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    assert after.keys() == own.buffers.keys()
    assert all(torch.equal(after[key], own.buffers[key]) for key in after)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"head": nn.Linear(7, 4)}, r"gradient\.head: Linear does not take inputs of \[batch, 18\]"),
        (
            {"head": linear_head(5)},
            r"gradient\.head: Sequential turns .* needs \[2, 4\] \(outputs of \[4\] for messages of \[2, 3, 3\]\)",
        ),
        ({"head": lambda width: nn.Flatten()}, r"gradient\.head: .* cannot be called as .*shape="),
        ({"pool": "mean", "shape": (SIZE,)}, r"gradient\.pool: messages of \[18\] have no sites to pool"),
        (
            {"reconstruct": Reconstruction(IMAGE, linear_head(3)), "context": (IMAGE,)},
            r"gradient\.reconstruct\.head: Sequential turns \[2, 18\] into \[2, 3\]; the graph needs \[2, 5\]",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_its_key(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line) as found:
        make("local", **given)
    assert "\n" not in str(found.value)


def test_a_head_for_floats_is_a_regression() -> None:
    own = make("local", head=linear_head(2), regression=True)
    each = example(regression=True)
    assert each.target is not None
    weight, bias = weights(own)
    torch.testing.assert_close(own.predict(each), (each.message @ weight.T + bias - each.target) @ weight)
    assert CLASS.features == 4
    assert own.parameters["module.1.weight"].dtype == DOUBLE


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_at_sites_slope_and_training_of_one_pass_are_those_of_two(hidden: tuple[int, ...]) -> None:
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.01, horizon=1),
        "dtype": DOUBLE,
        "hidden": hidden,
        "norm": "layer",
    }
    own = predictor_of("local", {}, (3, 6), (), target=ContextSpec("answer", (3,), 4), **settings)
    for p in own.trainable:
        p.data.add_(0.1)
    each = example(sites=(3,))
    each.context = each.delta = None
    assert own.learns_with(each)
    slope, learned = own.predict_and_learn(each)
    torch.testing.assert_close(slope, own.predict(each))
    loss, gradients = own.gradients([each])
    each.learned = learned
    again, same = own.gradients([each])
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(same, gradients)
