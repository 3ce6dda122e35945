"""Predictors at the sites of messages: each token or pixel is a row, in units that do not depend on their number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import comms
from antiphon.comms.model import ContextSpec, encode
from antiphon.comms.modules import input_of, predictor_of
from antiphon.comms.sites import SiteGradient, SiteInput
from antiphon.comms.stacked import StackedModels
from antiphon.comms.synthetic_gradients import ConvGradient, DirectGradient, Example, Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.errors import ScenarioError
from antiphon.nets.schedules import Rate
from tests.comms.made import DOUBLE, draw

B, T, D, V = 5, 3, 4, 6
H, W, C = 2, 3, 2
FOLLOWING, LABEL, PLACE = (
    ContextSpec("following", (T,), V),
    ContextSpec("label", (), 3),
    ContextSpec("place", (2,)),
)
WORDS = ContextSpec("words", (T, 2))
SEGMENTS, SKY = ContextSpec("segments", (H, W), V), ContextSpec("sky", (2, H, W))
TOKENS, PIXELS = (LABEL, FOLLOWING, WORDS, PLACE), (LABEL, SEGMENTS, SKY, PLACE)
KINDS: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"hidden": (5, 3), "norm": "layer"},
    "mlp, batch norm": {"hidden": (5,)},
    "critic": {},
    "sobolev": {"hidden": (5,), "norm": "layer"},
    "sobolev_label": {"hidden": (5,), "norm": "layer"},
    "local": {},
    "module": {},
}
every_kind = pytest.mark.parametrize("name", KINDS)


def module(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, outputs))


def make(
    name: str,
    shape: tuple[int, ...] = (T, D),
    context: tuple[ContextSpec, ...] = TOKENS,
    target: ContextSpec | None = FOLLOWING,
    *,
    sites: bool | None = True,
    seed: int = 0,
    **settings: Any,
) -> Predictor:
    """A predictor whose parameters are all sampled: what starts at zero too."""
    kind: Any = module if name == "module" else name.partition(",")[0]
    own = kind in ("local", "sobolev_label")
    predictor = predictor_of(
        kind,
        {},
        shape,
        context,
        sites=sites,
        target=target if own else None,
        generator=torch.Generator().manual_seed(0),
        optimiser={"kind": "sgd"},
        rate=Rate(base=0.1, horizon=1),
        dtype=DOUBLE,
        **{**KINDS.get(name, {}), **settings},
    )
    for i, parameter in enumerate(predictor.trainable):
        parameter.data.copy_(0.3 * draw(*parameter.shape, seed=20 + 10 * seed + i))
    return predictor


def signals(batch: int = B, seed: int = 0) -> dict[str, Tensor]:
    """Values of all the signals above."""

    def classes(count: int, *shape: int) -> Tensor:
        return torch.randint(count, (batch, *shape), generator=torch.Generator().manual_seed(seed))

    return {
        "label": classes(3),
        "following": classes(V, T),
        "segments": classes(V, H, W),
        "words": draw(batch, T, 2, seed=seed + 1),
        "sky": draw(batch, 2, H, W, seed=seed + 2),
        "place": draw(batch, 2, seed=seed + 3),
    }


def example(
    values: dict[str, Tensor],
    context: tuple[ContextSpec, ...] = TOKENS,
    size: int = T * D,
    target: str = "following",
    seed: int = 4,
) -> Example:
    batch = len(values["label"])
    return Example(
        draw(batch, size, seed=seed),
        encode(context, values, DOUBLE),
        0.1 * draw(batch, size, seed=seed + 1),
        target=values[target],
        loss=draw(batch, seed=seed + 2).square(),
    )


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def found(predictor: Predictor | StackedModels, given: Example) -> list[Tensor]:
    """All that a predictor says of an example: its prediction, value, slope of its own loss, loss and gradients."""
    says = [predictor.predict(given)]
    says += [predictor.value(given)] if predictor.needs_loss else []
    model = predictor.model if isinstance(predictor, StackedModels) else predictor
    model = model.at_site if isinstance(model, SiteGradient) else model
    says += [predictor.propagated(given)] if isinstance(model, DirectGradient) else []
    loss, gradients = predictor.gradients([given])
    return [*says, loss, *gradients]


# --- closed form -------------------------------------------------------------------------------------------------


def by_token(values: dict[str, Tensor], message: Tensor) -> Tensor:
    """What a token's predictor reads, [B, T, features], written out."""
    one_hot = F.one_hot(values["following"], V).to(DOUBLE)
    whole = [F.one_hot(values["label"], 3).to(DOUBLE), values["place"]]
    label, place = (value.unsqueeze(1).expand(B, T, -1) for value in whole)
    return torch.cat([message.view(B, T, D), label, one_hot, values["words"], place], 2)


def test_a_linear_predictor_of_tokens_is_a_linear_layer_over_tokens() -> None:
    values = signals()
    given, predictor = example(values), make("linear")
    assert isinstance(predictor, SiteGradient)
    layer = nn.Linear(D + 3 + V + 2 + 2, D, dtype=DOUBLE)
    layer.load_state_dict(dict(zip(("weight", "bias"), predictor.trainable, strict=True)))
    assert given.delta is not None
    rows = layer(by_token(values, given.message))
    loss = (rows - T * given.delta.view(B, T, D)).square().sum(2).mean()
    total, gradients = predictor.gradients([given])
    close(predictor.predict(given), (rows / T).flatten(1))
    close(total, loss)
    for mine, theirs in zip(gradients, torch.autograd.grad(loss, list(layer.parameters())), strict=True):
        close(mine, theirs)


def test_a_linear_predictor_of_pixels_is_a_convolution_with_filters_of_one_pixel() -> None:
    values = signals()
    context = (LABEL, SKY, PLACE)
    given = example(values, context, C * H * W)
    predictor = make("linear", (C, H, W), context)
    conv = make("conv", (C, H, W), context, sites=None, filter=1)
    assert isinstance(conv, ConvGradient)
    weight, bias = predictor.trainable
    conv.parameters["last.weight"].data.copy_(weight.view(C, -1, 1, 1))
    conv.parameters["last.bias"].data.copy_(bias)
    close(predictor.predict(given) * H * W, conv.predict(given))
    assert given.delta is not None
    whole = Example(given.message, given.context, H * W * given.delta)
    close(predictor.loss(given), conv.loss(whole) / (H * W))  # a mean over pixels, not their sum


def test_classes_of_pixels_go_to_pixels() -> None:
    values = signals()
    predictor = make("linear", (C, H, W), PIXELS)
    given = example(values, PIXELS, C * H * W)
    one_hot = F.one_hot(values["segments"], V).to(DOUBLE)
    label = F.one_hot(values["label"], 3).to(DOUBLE)
    rows = torch.cat(
        [
            given.message.view(B, C, H, W).permute(0, 2, 3, 1),
            label[:, None, None].expand(B, H, W, 3),
            one_hot,
            values["sky"].permute(0, 2, 3, 1),
            values["place"][:, None, None].expand(B, H, W, 2),
        ],
        3,
    )
    weight, bias = predictor.trainable
    close(predictor.predict(given), (F.linear(rows, weight, bias) / (H * W)).permute(0, 3, 1, 2).flatten(1))


def test_a_critics_slope_is_that_of_its_value() -> None:
    given, predictor = example(signals()), make("sobolev")
    leaf = given.message.clone().requires_grad_()
    own = Example(leaf, given.context, given.delta)
    assert isinstance(predictor, SiteGradient)
    rows = predictor.at_site.forward(*_opened(predictor, own), move=False)
    value = rows.view(B, T).mean(1)
    close(predictor.value(given), value.detach())
    close(predictor.predict(given), torch.autograd.grad(value.sum(), leaf)[0])


def _opened(predictor: SiteGradient, given: Example) -> tuple[Tensor, Tensor | None]:
    rows = predictor.sites.example(given)
    return rows.message, rows.context


@pytest.mark.parametrize("target", [FOLLOWING, LABEL])
def test_a_local_loss_is_the_mean_over_tokens(target: ContextSpec) -> None:
    values, context = signals(), (WORDS,)
    given = example(values, context, target=target.name)
    predictor = make("local", context=context, target=target)
    leaf = given.message.clone().requires_grad_()
    weight, bias = predictor.trainable
    logits = F.linear(torch.cat([leaf.view(B, T, D), values["words"]], 2), weight, bias)
    labels = given.target if target is FOLLOWING else values["label"].unsqueeze(1).expand(B, T)
    assert labels is not None
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(B, T).mean(1)
    close(predictor.loss(given), losses.mean())
    close(predictor.predict(given), torch.autograd.grad(losses.sum(), leaf)[0])


def test_an_input_at_tokens_is_a_linear_layer_over_tokens() -> None:
    values, context = signals(), (WORDS, LABEL)
    model = input_at((T, D), context)
    weight, bias = model.trainable
    label = F.one_hot(values["label"], 3).to(DOUBLE).unsqueeze(1).expand(B, T, 3)
    rows = F.linear(torch.cat([values["words"], label], 2), weight, bias)
    features, message = encode(context, values, DOUBLE), draw(B, T * D, seed=5)
    close(model.predict(features, B), rows.flatten(1))
    arrived = torch.tensor([True, False, True, True, False])
    loss = ((rows - message.view(B, T, D)).square().sum(2).mean(1) * arrived).mean()
    close(model.loss(features, message, arrived), loss)


def input_at(
    shape: tuple[int, ...], context: tuple[ContextSpec, ...], seed: int = 0, **keys: Any
) -> InputModel:
    kind = "mlp" if keys.get("hidden") else "linear"
    model = input_of(
        kind,
        {},
        shape,
        context,
        sites=True,
        generator=torch.Generator().manual_seed(0),
        optimiser={"kind": "sgd"},
        rate=Rate(base=0.1, horizon=1),
        dtype=DOUBLE,
        **keys,
    )
    assert isinstance(model, SiteInput)
    for i, parameter in enumerate(model.trainable):
        parameter.data.copy_(0.3 * draw(*parameter.shape, seed=20 + 10 * seed + i))
    return model


# --- what does not depend on sites -------------------------------------------------------------------------------


@every_kind
def test_one_site_is_the_whole_message(name: str) -> None:
    context = (LABEL, PLACE, ContextSpec("returned", (1, D)))
    flat = (LABEL, PLACE, ContextSpec("returned", (D,)))
    values = signals() | {"returned": draw(B, D, seed=9)}
    given = example(values, flat, D, target="label")
    one, whole = make(name, (1, D), context, LABEL), make(name, (D,), flat, LABEL, sites=None)
    assert isinstance(one, SiteGradient)
    assert not isinstance(whole, SiteGradient)
    for mine, theirs in zip(found(one, given), found(whole, given), strict=True):
        close(mine, theirs)


@every_kind
@pytest.mark.parametrize("maps", [False, True])
def test_numbers_do_not_depend_on_how_many_sites_are_equal(name: str, maps: bool) -> None:
    values = signals() | {"returned": draw(B, D, seed=9)}
    one = make(name, (1, D), (LABEL, ContextSpec("returned", (1, D))), LABEL)
    shape = (D, 2, 2) if maps else (4, D)
    four = make(name, shape, (LABEL, ContextSpec("returned", shape)), LABEL)
    given = example(values, (LABEL, ContextSpec("returned", (D,))), D, target="label")

    def repeated(value: Tensor) -> Tensor:
        return value.repeat_interleave(4, 1) if maps else value.repeat(1, 4)

    assert given.context is not None
    assert given.delta is not None
    context = torch.cat([given.context[:, :3], repeated(given.context[:, 3:] / 4)], 1)
    more = Example(
        repeated(given.message),
        context,
        repeated(given.delta / 4),
        target=given.target,
        loss=given.loss,
    )
    close(four.predict(more) * 4, repeated(one.predict(given)))
    for mine, theirs in zip(found(four, more)[-3:], found(one, given)[-3:], strict=True):
        close(mine, theirs)


@every_kind
def test_permuted_tokens_permute_predictions(name: str) -> None:
    values, order = signals(), torch.tensor([2, 0, 1])
    given, predictor = example(values), make(name)
    moved = values | {key: values[key][:, order] for key in ("following", "words")}

    def permuted(value: Tensor) -> Tensor:
        return value.view(B, T, D)[:, order].flatten(1)

    assert given.delta is not None
    other = Example(
        permuted(given.message),
        encode(TOKENS, moved, DOUBLE),
        permuted(given.delta),
        target=moved["following"],
        loss=given.loss,
    )
    close(predictor.predict(other), permuted(predictor.predict(given)))
    for mine, theirs in zip(predictor.gradients([other])[1], predictor.gradients([given])[1], strict=True):
        close(mine, theirs)


def test_flat_context_of_as_many_components_as_tokens_is_that_of_all() -> None:
    """A recurrent agent's state is no row of tokens, whatever its size."""
    predictor = make("linear", context=(ContextSpec("from.state", (T,)), ContextSpec("plan", (T,))))
    assert predictor.parameters["last.weight"].shape == (D, D + T + 1)


# --- stacked -----------------------------------------------------------------------------------------------------


def joined(some: list[Example], masked: bool) -> Example:
    """Examples of several models as rows of one; the second's last row does not count."""
    valid = torch.ones(len(some) * B, dtype=torch.bool)
    valid[2 * B - 1] = False

    def rows(name: str) -> Any:
        return torch.cat([getattr(one, name) for one in some])

    return Example(
        rows("message"),
        rows("context"),
        rows("delta"),
        valid if masked else None,
        rows("target"),
        loss=rows("loss"),
    )


@every_kind
@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_stacked_they_do_what_each_does_alone(name: str, maps: bool, masked: bool) -> None:
    shape, context, target = ((C, H, W), PIXELS, SEGMENTS) if maps else ((T, D), TOKENS, FOLLOWING)
    size = torch.Size(shape).numel()
    alone = [make(name, shape, context, target, seed=k) for k in range(3)]
    copies = [make(name, shape, context, target, seed=k) for k in range(3)]
    some = [example(signals(seed=k), context, size, target.name, seed=7 * k) for k in range(3)]
    if masked:
        some[1].valid = torch.arange(B) < B - 1
    stack = StackedModels(copies, B)
    given = joined(some, masked)
    own = [found(one, each) for one, each in zip(alone, some, strict=True)]
    for mine, theirs in zip(found(stack, given), zip(*own, strict=True), strict=True):
        expected = torch.stack(theirs)
        close(mine.reshape(expected.shape), expected)


def test_stacked_predictors_of_tokens_are_written_out_without_autograd() -> None:
    stack = StackedModels([make("linear", seed=k) for k in range(2)], B)
    assert stack.maps is not None
    assert stack.maps.size == D


@pytest.mark.parametrize("keys", [{}, {"hidden": (5,), "norm": "layer"}])
def test_stacked_inputs_do_what_each_does_alone(keys: dict[str, Any]) -> None:
    context = (WORDS, LABEL)
    alone = [input_at((T, D), context, seed=k, **keys) for k in range(2)]
    stack = StackedModels([input_at((T, D), context, seed=k, **keys) for k in range(2)], B)
    each = [encode(context, signals(seed=k), DOUBLE) for k in range(2)]
    messages, arrived = draw(2 * B, T * D, seed=6), torch.arange(2 * B) % 3 > 0
    features = torch.cat([one for one in each if one is not None])
    predicted = [model.predict(one, B) for model, one in zip(alone, each, strict=True)]
    close(stack.predict(features), torch.cat(predicted))
    loss, gradients = stack.input_gradients([(features, messages, arrived)])
    for k, model in enumerate(alone):
        rows = slice(k * B, (k + 1) * B)
        own, theirs = model.gradients([(each[k], messages[rows], arrived[rows])])
        close(loss[k], own)
        for mine, gradient in zip(gradients, theirs, strict=True):
            close(mine[k], gradient)


# --- a plain loop ------------------------------------------------------------------------------------------------


def test_a_channel_of_tokens_in_a_plain_loop_learns_as_by_hand() -> None:
    def networks() -> tuple[nn.Linear, nn.Linear]:
        torch.manual_seed(0)
        return nn.Linear(2, D, dtype=DOUBLE), nn.Linear(D, V, dtype=DOUBLE)

    lower, upper = networks()
    channel = comms.Channel(
        [T, D],
        gradient={"kind": "linear", "optimiser": {"kind": "sgd"}},
        context={"following": ((T,), V)},
        lr=0.5,
        dtype=DOUBLE,
    )
    below, above = networks()
    weight, bias = torch.zeros(D, D + V, dtype=DOUBLE), torch.zeros(D, dtype=DOUBLE)
    for step in range(4):
        values = signals(seed=step)
        x, labels = values["words"], values["following"]
        channel.send(lower(x), following=labels)
        loss = F.cross_entropy(upper(channel.receive()).flatten(0, 1), labels.flatten())
        comms.learn(None, lower.parameters(), sent=[channel])
        comms.learn(loss, upper.parameters(), received=[channel])
        channel.learn()

        message = below(x)
        leaf = message.detach().requires_grad_()
        rows = torch.cat([leaf.detach(), F.one_hot(labels, V).to(DOUBLE)], 2)
        predicted = F.linear(rows, weight, bias)
        F.cross_entropy(above(leaf).flatten(0, 1), labels.flatten()).backward()
        assert leaf.grad is not None
        error = (predicted - B * T * leaf.grad) * 2 / (B * T)
        message.backward(predicted / (B * T))
        for mine, theirs in ((lower, below), (upper, above)):
            for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
                assert p.grad is not None
                assert q.grad is not None
                close(p.grad, q.grad)
                with torch.no_grad():
                    p -= 0.1 * p.grad
                    q -= 0.1 * q.grad
                q.grad = None
        weight = weight - 0.5 * torch.einsum("btd,btf->df", error, rows)
        bias = bias - 0.5 * error.sum((0, 1))
    assert channel.predictor is not None
    close(channel.predictor.parameters["last.weight"].detach(), weight)
    assert weight.abs().max() > 0.01


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "gradient", "line"),
    [
        (
            8,
            {"kind": "linear", "sites": True},
            (
                "gradient.sites: a message of 8 components has none; give it a size such as [tokens, features] or "
                "[channels, height, width], or leave sites out"
            ),
        ),
        (
            [2, 3, 3],
            {"kind": "conv", "sites": True},
            (
                "gradient.sites: a conv gradient reads every site of a map with its neighbours; leave it out, or use kind "
                "linear or mlp"
            ),
        ),
        (
            [2, 3],
            "conv",
            "size: a conv gradient reads maps [channels, height, width], not [2, 3]; use kind mlp",
        ),
    ],
)
def test_refusals(size: Any, gradient: Any, line: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        comms.Channel(size, gradient=gradient)
    assert str(refused.value) == f"channel channel: {line}"
